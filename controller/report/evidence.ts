// The raw material behind every printed number of a report, as sections that the numbers link to.
import type { Measurement, Quantity } from '@ofa-fleet/shared/measurement.ts';
import type { CampaignMeasurement } from '../store/campaigns.ts';
import type { ReportData } from './data.ts';
import { budgetOf } from './comparison.ts';
import { spreadSentence } from './process-spread.ts';
import { genesOf } from './trial-files.ts';

export interface Evidence {
  /** Anchor in the report. */
  readonly id: string;
  readonly html: string;
}

/** Anchors, by what they stand for. */
export const anchors = {
  campaign: 'campaign',
  measurement: (jobId: string) => `m-${safe(jobId)}`,
  accuracy: (subnetId: string, split: string) => `acc-${subnetId}-${safe(split)}`,
  subnet: (subnetId: string) => `net-${subnetId}`,
  budget: (deviceClass: string) => `budget-${deviceClass}`,
  spread: (deviceClass: string) => `spread-${safe(deviceClass)}`,
  served: (deviceId: string, carrier: string) => `served-${safe(deviceId)}-${carrier}`,
  energy: (deviceId: string, rev: number) => `energy-${safe(deviceId)}-${rev}`,
};

/** Every piece of evidence of the campaign, linked to or not. */
export function evidenceOf(data: ReportData): readonly Evidence[] {
  const { campaign } = data;
  const { space, ...settings } = campaign.settings;
  const outcomes = [...campaign.tells.map(({ outcome }) => outcome), ...data.baselines.map(({ told }) => told)];
  const believed = new Set(outcomes.flatMap((outcome) => (outcome?.ok === true ? outcome.value.jobIds : [])));
  const subnets = [...campaign.asks, ...data.baselines.map(({ baseline }) => baseline)];
  return [
    section(anchors.campaign, `Campaign ${escape(campaign.id)}`, [
      `begun ${new Date(campaign.createdAt).toISOString()}; ${campaign.asks.length} asks, ${campaign.tells.length} tells; ended: ${campaign.endedReason ?? 'not yet'}; weights ${escape(campaign.weightsHash)}`,
      pre(JSON.stringify({ ...settings, space: space.name }, null, 1)),
      list('asks, in order', campaign.asks.map((ask) => `${ask.n}: ${ask.subnetId} after ${ask.toldBefore} tells`)),
    ]),
    ...data.measurements.map((one) => measurementSection(one, believed.has(one.jobId))),
    ...data.accuracies.map(({ subnetId, split, correct, total, predictions }) =>
      section(anchors.accuracy(subnetId, split), `Accuracy of subnet ${subnetId} on ${escape(split)}`, [
        `${correct} of ${total} images right.`,
        predictions === null ? 'Predicted classes were not kept.' : list('predicted class of each image, in order', [...predictions].map(String)),
      ]),
    ),
    ...subnets.map(({ subnetId, subnet }) => {
      const artifact = data.artifacts.get(subnetId);
      return section(anchors.subnet(subnetId), `Subnet ${subnetId}`, [
        `resolution ${subnet.resolution}; blocks ${genesOf(subnet.stages)} (k: depthwise kernel, e: expand ratio; stages apart by |)`,
        artifact === undefined ? 'Not materialised.' : `${artifact.macs} multiply-accumulates; ${artifact.parameters} parameters; manifest ${artifact.manifestSha256}`,
      ]);
    }),
    ...campaign.settings.deviceClasses.flatMap((deviceClass) => {
      const budget = budgetOf(data, deviceClass);
      if (budget === null) return [];
      const because = budget.origin === 'given' ? 'Given by the user.' : `The median of the ${budget.subnetIds.length} subnets measured on this class:`;
      const links = budget.subnetIds.map((id) => `<a href="#${anchors.subnet(id)}">${id}</a>`).join(' ');
      return [section(anchors.budget(deviceClass), `Budget of ${escape(deviceClass)}`, [`${budget.latencyMs} ms. ${because}`, links])];
    }),
    ...campaign.settings.deviceClasses.map((deviceClass) => {
      const again = data.measurements.filter((one) => one.purpose === 'repeat' && one.deviceClass === deviceClass);
      const links = again.map(({ jobId, subnetId }) => `<a href="#${anchors.measurement(jobId)}">${subnetId}</a>`);
      return section(anchors.spread(deviceClass), `Processes of ${escape(deviceClass)}`, [spreadSentence(data.spreads.get(deviceClass) ?? null), list('measured again', links)]);
    }),
    ...data.served.map((check) =>
      section(anchors.served(check.deviceId, check.carrier), `Served by ${escape(check.deviceClass)} over ${check.carrier}`, [
        `${check.agreeing} of ${check.images} answers are the controller's own; subnet ${check.subnetId}.`,
        list("the device's own time of each run, ms", check.runMs.map(String)),
        list('time until the answer was here, ms', check.roundTripMs.map(String)),
      ]),
    ),
    ...data.energy.map((entry) =>
      section(anchors.energy(entry.deviceId, entry.rev), `Energy of ${escape(entry.deviceName)}, deployment ${entry.rev}`, [
        `sensor: ${escape(entry.sensor ?? 'none')}; ${entry.inferences} inferences; active ${entry.activeMs} ms, idle ${entry.idleMs} ms. ${escape(entry.reason ?? '')}`,
        list('newest report of each boot (cumulative)', entry.reports.map((one) => `${escape(one.bootId)} no. ${one.seq}: idle ${one.idleJoules ?? 'not measured'} J, active ${one.activeJoules ?? 'not measured'} J`)),
      ]),
    ),
  ]; // prettier-ignore
}

function measurementSection(
  { jobId, deviceClass, deviceId, subnetId, purpose, attempt, measurement }: CampaignMeasurement,
  believed: boolean,
): Evidence {
  const { verdict, latency, samplesMs, provenance } = measurement;
  const findings = verdict.findings.map(({ reason, effect, message }) => `${reason} (${effect}): ${escape(message)}`);
  return section(anchors.measurement(jobId), `Measurement ${escape(jobId)}`, [
    `subnet <a href="#${anchors.subnet(subnetId)}">${subnetId}</a> on ${escape(deviceClass)} (${escape(deviceId)}), ${purpose}, try ${attempt}${believed || purpose === 'energy' || purpose === 'repeat' ? '' : '; doubtful, and not used'}`,
    `median ${latency.value ?? 'none'} ms, 95 % interval ${latency.ci === null ? 'none' : `${latency.ci.lo} to ${latency.ci.hi} ms (${escape(latency.ci.method)})`}; n = ${latency.n}, effective n = ${latency.nEff}; verdict: ${verdict.state}`,
    referenceLine(measurement),
    list('findings', findings),
    `load ${measurement.loadMs ?? 'none'} ms, first run ${measurement.firstRunMs ?? 'none'} ms, ${measurement.warmUpRuns ?? 'no'} runs of warm-up, binding alone ${measurement.bindingMs ?? 'not measured'} ms, p90 ${measurement.p90Ms ?? 'none'}, p99 ${measurement.p99Ms ?? 'none'}, max ${measurement.maxMs ?? 'none'} ms`,
    energyLine(measurement),
    pre(`${measurement.protocolId}\n${JSON.stringify(provenance)}`),
    list(`raw times of the ${latency.n > samplesMs.length ? `first runs of ${latency.n}` : 'runs'}, ms, in order`, samplesMs.map(String)),
  ]); // prettier-ignore
}

/** How fast the device was, and what the figure is at the speed of its baseline. */
function referenceLine({ reference, corrected }: Measurement): string {
  if (reference === null) return 'reference workload: not run';
  const blocks = reference.blocks.map(({ medianMs, afterRuns }) => `${medianMs} ms after ${afterRuns} runs`).join(', ');
  const baseline = reference.baseline === null ? 'no baseline yet' : `baseline ${reference.baseline.medianMs} ms`;
  const figure =
    corrected?.value == null
      ? 'not corrected'
      : `corrected median ${corrected.value} ms (${corrected.ci === null ? 'no interval' : `${corrected.ci.lo} to ${corrected.ci.hi} ms`}), which is what the search was told`;
  return `reference workload ${escape(reference.workload)}: ${blocks}; ${baseline}; ${figure}`;
}

function energyLine({ energy }: Measurement): string {
  const { gross, net } = energy;
  if (gross.value === null) return `energy: none, ${escape(gross.message ?? gross.reason ?? 'no reason given')}`;
  return `energy per inference: gross ${joulesWithin(gross)}, net of idle ${joulesWithin(net)}; sensor ${escape(energy.sensor ?? '')}, boundary ${energy.boundary ?? ''}, ${energy.inferences ?? 0} inferences in ${energy.windowMs ?? 0} ms. ${escape(net.message ?? '')}`;
}

/** Joules with their interval, not rounded. */
function joulesWithin({ value, ci }: Quantity): string {
  if (value === null) return 'none';
  return ci === null ? `${value} J` : `${value} J (${ci.lo} to ${ci.hi}, ${escape(ci.method)})`;
}

function section(id: string, title: string, parts: readonly string[]): Evidence {
  const body = parts.filter((part) => part !== '').map((part) => (part.startsWith('<') ? part : `<p>${part}</p>`));
  return { id, html: `<section id="${id}"><h3>${title}</h3>${body.join('')}</section>` };
}

function list(title: string, values: readonly string[]): string {
  return values.length === 0
    ? ''
    : `<details><summary>${title}: ${values.length}</summary><p class="raw">${values.join(' ')}</p></details>`;
}

function pre(text: string): string {
  return `<pre>${escape(text)}</pre>`;
}

export function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

function safe(text: string): string {
  return text.replace(/[^A-Za-z0-9_-]/g, '_');
}
