// The campaign as one self-contained page. Every number is a link to the raw times, predictions or counters that it comes from.
import type { Interval, Quantity } from '@ofa-fleet/shared/measurement.ts';
import { spreadSentence } from './process-spread.ts';
import { estimateMedian } from '@ofa-fleet/shared/statistics.ts';
import type { ToldOutcome } from '../store/told.ts';
import { compare, type ComparisonRow, type DeviceComparison } from './comparison.ts';
import type { ReportData, ReportDevice } from './data.ts';
import { anchors, escape, evidenceOf } from './evidence.ts';
import { millijoules, millions, milliseconds, percent, percentWithin, threeDigits } from './format.ts';
import { frontSvg } from './front-svg.ts';

const STYLE = `
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:68rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%;margin:.6rem 0}th,td{text-align:left;padding:.25rem .6rem .25rem 0;border-bottom:1px solid #8884;vertical-align:top}
th{font-weight:600}td.n{white-space:nowrap}a{color:inherit;text-decoration-color:#8888;text-underline-offset:2px}tr.chosen{font-weight:600}
svg{max-width:100%;height:auto;background:#fff}pre{overflow:auto;font-size:12px}.raw{font:12px/1.5 ui-monospace,monospace;word-break:break-word}
section:target{outline:2px solid #E69F00;outline-offset:4px}h2{margin-top:2rem}.note{color:#777}`;

/** Opens the raw times of the section that a link leads to. */
const SCRIPT = `addEventListener('hashchange',show);show();function show(){const s=location.hash&&document.getElementById(location.hash.slice(1));if(s){for(const d of s.querySelectorAll('details'))d.open=true;s.scrollIntoView()}}`;

/** A whole HTML document. A number without evidence is a bug and throws. */
export function reportHtml(data: ReportData): string {
  const evidence = evidenceOf(data);
  const known = new Set(evidence.map(({ id }) => id));
  const link: Link = (text, id) => {
    if (!known.has(id)) throw new Error(`The report has no evidence "${id}" for "${text}".`);
    return `<a href="#${id}">${escape(text)}</a>`;
  };
  const { campaign } = data;
  const comparisons = compare(data);
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>OFA Fleet: campaign ${escape(campaign.id)}</title><style>${STYLE}</style></head><body>
<h1>What this fleet measured</h1>
${headline(data, link)}
${frontSvg(data)}
<p class="note">Latency is the median of one inference with input and output in place, batch of one; a ± is the half-width of its interval. Errors in the tables are on test images that no choice has seen, with Wilson's interval; the picture and the list of subnets show the validation images, which the search sees. Each number leads to its raw data.</p>
<h2>What was chosen, and what else could have been</h2>
${comparisons.map((comparison) => comparisonHtml(data, comparison, link)).join('')}
<h2>As deployed</h2>
${servedHtml(data, link)}
<h2>Energy</h2>
${energyHtml(data, link)}
<h2>Every subnet measured</h2>
${trialsHtml(data, link)}
<h2>Raw data</h2>
${evidence.map(({ html }) => html).join('\n')}
<script>${SCRIPT}</script></body></html>
`;
}

type Link = (text: string, id: string) => string;

function headline(data: ReportData, link: Link): string {
  const { campaign, devices } = data;
  const { deviceClasses } = campaign.settings;
  const complete = data.trials.filter((trial) => deviceClasses.every((name) => trial.latencyMs[name] !== undefined)).length;
  const rows = deviceClasses
    .map(
      (name) =>
        `<li>${deviceLine(
          name,
          devices.filter((device) => device.deviceClass === name),
        )}. ${link(spreadSentence(data.spreads.get(name) ?? null), anchors.spread(name))}</li>`,
    )
    .join('');
  const end = { complete: 'all that was asked for', cap: 'the time cap ended it', stopped: 'stopped by the user', exhausted: 'nothing further could be measured', failed: 'the controller could not go on' }; // prettier-ignore
  const ending = campaign.endedReason === null ? 'not at its end' : end[campaign.endedReason];
  return `<p>Of ${link(`${campaign.asks.length} subnets asked`, anchors.campaign)}, ${link(`${complete} are measured on every device`, anchors.campaign)}; ${ending}. Algorithm ${campaign.settings.algorithm.toUpperCase().replace('NSGA2', '<span class="name">NSGA-II</span>')}, ${link(`seed ${campaign.settings.seed}`, anchors.campaign)}.</p><ul>${rows}</ul>`;
}

function deviceLine(deviceClass: string, devices: readonly ReportDevice[]): string {
  const info = devices.find((device) => device.info !== null)?.info ?? null;
  const what = info === null ? '' : `: ${info.runtime.name} ${info.runtime.version} on ${info.cpuModel}, ${info.cores} cores`;
  return `<span class="name"><b>${escape(deviceClass)}</b>${escape(what)} (${escape(devices.map(({ name }) => name).join(', '))})</span>`;
}

function comparisonHtml(data: ReportData, { budget, rows }: DeviceComparison, link: Link): string {
  const why = budget.origin === 'given' ? 'as given' : 'the median of what it measured';
  const testId = (row: ComparisonRow) => anchors.accuracy(row.subnetId as string, data.campaign.settings.testSplit);
  const body = rows.map((row) => {
    const latency =
      row.latency === null ? '' : link(milliseconds(row.latency), latencyAnchor(data, row.subnetId as string, budget.deviceClass));
    const error = row.test === null ? '' : link(percentWithin(row.test.share, row.test.ci), testId(row));
    const kept = row.withinBudget === null ? '' : row.withinBudget ? 'yes' : 'no';
    const macs = row.macs === null ? '' : link(millions(row.macs), anchors.subnet(row.subnetId as string));
    return `<tr class="${row.role}"><td>${nameHtml(row)}</td><td class="n">${latency}</td><td>${kept}</td><td class="n">${error}</td><td class="n">${macs}</td><td>${sentenceHtml(data, row, budget.deviceClass, link)}</td></tr>`;
  });
  return `<h3><span class="name">${escape(budget.deviceClass)}</span>: budget ${link(`${threeDigits(budget.latencyMs)} ms`, anchors.budget(budget.deviceClass))} (${why})</h3>
<table><thead><tr><th>which</th><th>latency</th><th>keeps the budget</th><th>error on test images</th><th>MACs</th><th>beside the search's choice</th></tr></thead><tbody>${body.join('')}</tbody></table>`;
}

function nameHtml(row: ComparisonRow): string {
  return row.subnetId === null ? nameOnly(row.label) : `${nameOnly(row.label)} <a href="#${anchors.subnet(row.subnetId)}"><code>${row.subnetId.slice(0, 8)}</code></a>`; // prettier-ignore
}

function nameOnly(label: string): string {
  return `<span class="name">${escape(label)}</span>`;
}

/** A sentence's figures come from the row's own error and latency, and from the budget where there is no row. */
function sentenceHtml(data: ReportData, row: ComparisonRow, deviceClass: string, link: Link): string {
  if (row.sentence === '') return '';
  if (row.subnetId === null) return link(row.sentence, anchors.budget(deviceClass));
  const id =
    row.test === null ? latencyAnchor(data, row.subnetId, deviceClass) : anchors.accuracy(row.subnetId, data.campaign.settings.testSplit);
  return link(row.sentence, id);
}

/** The measurement behind a latency: the first of those that the search was told of. */
function latencyAnchor(data: ReportData, subnetId: string, deviceClass: string): string {
  const outcome = toldOf(data, subnetId, deviceClass);
  return outcome?.ok === true ? anchors.measurement(outcome.value.jobIds[0] as string) : anchors.subnet(subnetId);
}

function toldOf(data: ReportData, subnetId: string, deviceClass: string): ToldOutcome | null {
  const tell = data.campaign.tells.find((one) => one.subnetId === subnetId && one.deviceClass === deviceClass);
  const baseline = data.baselines.find((one) => one.baseline.subnetId === subnetId && one.baseline.deviceClass === deviceClass);
  return tell?.outcome ?? baseline?.told ?? null;
}

function servedHtml(data: ReportData, link: Link): string {
  if (data.served.length === 0) return '<p>No deployed model of this campaign has been checked.</p>';
  const rows = data.served.map((check) => {
    const id = anchors.served(check.deviceId, check.carrier);
    const promised = data.trials.find((trial) => trial.subnetId === check.subnetId)?.latencyMs[check.deviceClass];
    const promise = promised === undefined ? '' : link(milliseconds(promised), latencyAnchor(data, check.subnetId, check.deviceClass));
    const agreement = link(`${check.agreeing} of ${check.images} (${percent(check.agreeing / check.images)})`, id);
    return `<tr><td>${nameOnly(check.deviceClass)}</td><td>${check.carrier.toUpperCase()}</td><td class="n">${agreement}</td><td class="n">${promise}</td><td class="n">${link(milliseconds(medianOf(check.runMs)), id)}</td><td class="n">${link(milliseconds(medianOf(check.roundTripMs)), id)}</td></tr>`;
  });
  return `<table><thead><tr><th>device</th><th>by</th><th>same class as the controller's own runtime</th><th>latency promised</th><th>latency as served</th><th>until the answer was here</th></tr></thead><tbody>${rows.join('')}</tbody></table>`;
}

export function medianOf(values: readonly number[]): { readonly value: number; readonly ci: Interval | null } {
  return estimateMedian(values, 0.95);
}

function energyHtml(data: ReportData, link: Link): string {
  const deployed = data.energy.map((entry) => {
    const id = anchors.energy(entry.deviceId, entry.rev);
    const joules = (value: number | null) => (value === null ? 'not measured' : link(`${threeDigits(value)} J`, id));
    return `<tr><td>${nameOnly(entry.deviceName)}</td><td class="n">${link(`no. ${entry.rev}`, id)}</td><td class="n">${joules(entry.activeJoules)}</td><td class="n">${joules(entry.idleJoules)}</td><td class="n">${link(String(entry.inferences), id)}</td><td>${entry.reason === null ? nameOnly(entry.sensor ?? '') : link(entry.reason, id)}</td></tr>`;
  });
  const table =
    deployed.length === 0
      ? '<p>No device has reported the energy of a deployment.</p>'
      : `<table><thead><tr><th>device</th><th>deployment</th><th>active</th><th>idle</th><th>inferences</th><th>sensor, or why there are no joules</th></tr></thead><tbody>${deployed.join('')}</tbody></table>`;
  const asked = data.measurements.filter((one) => one.purpose === 'energy');
  const measured = asked.map((one) => {
    const { gross, net } = one.measurement.energy;
    const id = anchors.measurement(one.jobId);
    const joules = ({ value, ci, message }: Quantity) => {
      if (value === null) return link(message ?? 'no reason given', id);
      return link(millijoules({ value, ci }), id) + (message === null ? '' : ` <em>suspect</em><br>${link(message, id)}`);
    };
    return `<tr><td>${nameOnly(one.deviceClass)}</td><td><a href="#${anchors.subnet(one.subnetId)}"><code>${one.subnetId.slice(0, 8)}</code></a></td><td>${joules(net)}</td><td>${joules(gross)}</td></tr>`;
  });
  const front =
    measured.length > 0
      ? `<h3>Per inference, members of the front</h3><table><thead><tr><th>device</th><th>subnet</th><th>net of idle</th><th>gross</th></tr></thead><tbody>${measured.join('')}</tbody></table>`
      : `<p>${nameOnly(whyNoEnergy(data))}</p>`;
  return table + front;
}

/** Why no energy per inference was measured, in a sentence. */
export function whyNoEnergy(data: Pick<ReportData, 'devices'>): string {
  const without = data.devices.filter((device) => device.info !== null && device.info.sensors.length === 0).map(({ name }) => name);
  return without.length > 0
    ? `No joules per inference: ${without.join(' and ')} found no energy sensor; \`ofa-agent meters\` on the device says what it looked for. A processor's rated power is no measurement, so none is used.`
    : 'No joules per inference were asked for.';
}

function trialsHtml(data: ReportData, link: Link): string {
  const { deviceClasses, validationSplit } = data.campaign.settings;
  const rows = data.campaign.asks.map(({ n, subnetId, subnet }) => {
    const trial = data.trials.find((one) => one.subnetId === subnetId);
    const accuracy = data.accuracies.some((one) => one.subnetId === subnetId && one.split === validationSplit);
    const error = trial === undefined || !accuracy ? '' : link(percent(trial.error), anchors.accuracy(subnetId, validationSplit));
    const cells = deviceClasses.map((name) => {
      const outcome = toldOf(data, subnetId, name);
      if (outcome === null) return '<td class="note">not measured</td>';
      if (!outcome.ok) return `<td>${link(`${outcome.reason}: ${outcome.message}`, anchors.subnet(subnetId))}</td>`;
      const { latency, state } = outcome.value;
      return `<td class="n">${link(milliseconds(latency), latencyAnchor(data, subnetId, name))}${state === 'suspect' ? ' <em>suspect</em>' : ''}</td>`;
    });
    return `<tr><td class="n">${link(`#${n}`, anchors.campaign)} <a href="#${anchors.subnet(subnetId)}"><code>${subnetId}</code></a></td><td class="n">${link(`${subnet.resolution} px`, anchors.subnet(subnetId))}</td><td class="n">${error}</td>${cells.join('')}</tr>`;
  });
  return `<table><thead><tr><th>subnet</th><th>input</th><th>validation error</th>${deviceClasses.map((name) => `<th>${nameOnly(name)}</th>`).join('')}</tr></thead><tbody>${rows.join('')}</tbody></table>`;
}
