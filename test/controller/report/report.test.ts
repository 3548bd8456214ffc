// The report of a campaign measured by stand-in devices: what it prints, and that each printed number leads to its raw data.
import { summaryLines } from '../../../controller/report/summary.ts';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { budgetOf, compare, rolesOf, subnetsToTest } from '../../../controller/report/comparison.ts';
import { loadReportData, type ReportData } from '../../../controller/report/data.ts';
import { frontSvg } from '../../../controller/report/front-svg.ts';
import { reportHtml } from '../../../controller/report/html.ts';
import { trialRows } from '../../../controller/report/trial-files.ts';
import { writeReport } from '../../../controller/report/write-report.ts';
import { addBaseline, addServedCheck } from '../../../controller/store/comparison.ts';
import type { Db } from '../../../controller/store/database.ts';
import { subnetId, uniformSubnet } from '../../../controller/subnet.ts';
import { createStandInFleet, measured } from '../../helpers/stand-in-fleet.ts';
import { CLASSES, plantAccuracies, plantCampaign, SPACE } from '../../helpers/planted-campaign.ts';
import { DEFAULT_PLAN } from '@ofa-fleet/shared/measurement.ts';
import { measurementKey } from '../../../controller/store/campaigns.ts';

let db: Db;
let data: ReportData;

async function load(campaignId: string): Promise<ReportData> {
  const loaded = await loadReportData(db, campaignId);
  if (!loaded.ok) throw new Error(loaded.message);
  return loaded.value;
}

beforeAll(async () => {
  let doubtful = 0;
  const planted = await plantCampaign({
    subnets: 24,
    answer: (job, latencyMs) => measured(latencyMs, job.order % 9 === 4 && doubtful++ < 3 ? 'suspect' : 'valid'),
  });
  db = planted.db;
  const subnet = uniformSubnet(SPACE, { resolution: SPACE.resolutions[0] as number, kernel: 3, expand: 3, depth: 2, stages: 2 });
  const id = subnetId(SPACE, subnet);
  await addBaseline(db, planted.campaignId, { deviceClass: 'native', subnetId: id, subnet });
  await plantAccuracies(db, subnet);
  const fleet = await createStandInFleet(db, CLASSES, () => measured(0.28));
  const ended = new Promise<void>((resolve) => fleet.onJobEnd(() => resolve()));
  await fleet.enqueue({
    key: measurementKey({ campaignId: planted.campaignId, purpose: 'baseline', subnetId: id, deviceClass: 'native', attempt: 1 }),
    deviceClass: 'native',
    manifestSha256: id.repeat(4),
    plan: DEFAULT_PLAN,
  });
  await ended;
  const chosen = (await load(planted.campaignId)).campaign.asks[2]?.subnetId as string;
  const times = Array.from({ length: 50 }, (_, i) => 0.5 + (i % 7) / 100);
  for (const carrier of ['http', 'mqtt'] as const) {
    await addServedCheck(db, planted.campaignId, { deviceId: 'device-native', deviceClass: 'native', subnetId: chosen, carrier, images: 50, agreeing: 50, runMs: times, roundTripMs: times.map((t) => t + 1) }, 5); // prettier-ignore
  }
  const energy = { device_id: 'device-native', rev: 1, manifest_sha256: null, idle_ms: 1000, active_ms: 20, inferences: 40, sensor: 'rapl package-0', reason: null, message: null, at: 9 }; // prettier-ignore
  for (const [seq, joules] of [
    [1, 1],
    [2, 3.5],
  ] as const) {
    // prettier-ignore
    await db.insertInto('energy_report').values({ ...energy, boot_id: 'b1', seq, idle_joules: joules, active_joules: joules / 2 }).execute(); // prettier-ignore
  }
  await db.insertInto('energy_report').values({ ...energy, device_id: 'device-wasm', boot_id: 'b2', seq: 1, idle_joules: null, active_joules: null, sensor: null, reason: 'SENSOR_MISSING', message: 'No sensor under /sys/class/powercap.' }).execute(); // prettier-ignore
  data = await load(planted.campaignId);
});

afterAll(() => db.destroy());

describe('report.html', () => {
  it('prints no number that does not lead to its raw data, and links nowhere else', () => {
    const html = reportHtml(data);
    const targets = new Map(
      [...html.matchAll(/<section id="([^"]+)">([\s\S]*?)<\/section>/g)].map((match) => [match[1], match[2] as string]),
    );
    const visible = html.slice(html.indexOf('<body>'), html.indexOf('<h2>Raw data</h2>')).replace(/<svg[\s\S]*?<\/svg>/g, '');
    const links = [...visible.matchAll(/<a href="([^"]*)">([\s\S]*?)<\/a>/g)];
    expect(links.length).toBeGreaterThan(100);
    for (const [, href = '', text = ''] of links) {
      expect(targets.has(href.slice(1)), `"${text}" leads to ${href}`).toBe(true);
    }
    const unlinked = visible
      .replace(/<a href[\s\S]*?<\/a>/g, '')
      .replace(/<span class="name">[\s\S]*?<\/span>/g, '')
      .replace(/<[^>]*>/g, ' ');
    expect(unlinked.match(/\d/g) ?? []).toEqual([]);
  });

  it('holds the raw times of every measurement, doubtful ones too, beside the number they came to', () => {
    const html = reportHtml(data);
    expect(data.measurements.length).toBeGreaterThan(48);
    for (const { jobId, measurement } of data.measurements) {
      const start = html.indexOf(`<section id="m-${jobId}">`);
      const section = html.slice(start, html.indexOf('</section>', start));
      expect(section).toContain(`raw times of the runs, ms, in order: ${measurement.samplesMs.length}`);
      for (const sample of measurement.samplesMs) expect(section.includes(String(sample))).toBe(true);
    }
  });

  it('needs nothing from elsewhere: no script, style, picture or font by address', () => {
    expect(/<(?:script|img|iframe|link)[^>]+(?:src|href)=|url\((?!#)|@import/.exec(reportHtml(data))?.[0] ?? null).toBeNull();
  });

  it('sets joules active and idle apart, adds up nothing twice, and says why where there are none', () => {
    const html = reportHtml(data);
    const section = html.slice(html.indexOf('<h2>Energy</h2>'), html.indexOf('<h2>Every subnet'));
    expect(section).toContain('>3.50 J<');
    expect(section).toContain('>1.75 J<');
    expect(section).toContain('No sensor under /sys/class/powercap.');
    expect(section).not.toContain('>0 J<');
  });

  it('sums up energy in one line for each device and kind, and says why where there is none', () => {
    const one = data.measurements[0] as ReportData['measurements'][number];
    const { energy } = one.measurement;
    const measured = (jobId: string, value: number) => {
      const gross = { ...energy.gross, value, ci: { lo: value - 2e-4, hi: value + 2e-4, level: 0.95, method: 'k = 2' }, reason: null, message: null }; // prettier-ignore
      return {
        ...one,
        jobId,
        deviceId: 'device-native',
        purpose: 'energy' as const,
        measurement: { ...one.measurement, energy: { ...energy, gross } },
      };
    };
    const energyOf = (some: Partial<ReportData>) => summaryLines({ ...data, ...some }).filter((line) => /[Ee]nergy|joules/.test(line));
    const measurements = [...data.measurements, measured('e1', 4e-3), measured('e2', 2.5e-3)];
    const lines = energyOf({ measurements, energy: [] });
    expect(lines[0]).toMatch(
      /^Energy of \S+ per inference, idle power included: 2\.50 ± 0\.20 mJ to 4\.00 ± 0\.20 mJ in 2 measurements\.$/,
    );
    expect(lines[1]).toMatch(/^No joules per inference/);
    expect(lines).toHaveLength(2);
    expect(energyOf({ measurements })[2]).toMatch(/^Energy of .*, deployment 1: active 1\.75 J, idle 3\.50 J/);
  });

  it('shows joules per inference with their interval, and what makes them doubtful beside them', () => {
    const one = data.measurements[0] as ReportData['measurements'][number];
    const { energy } = one.measurement;
    const joules = { ...energy.gross, value: 2.5e-3, ci: { lo: 2.4e-3, hi: 2.6e-3, level: 0.95, method: 'k = 2' }, reason: null, message: null }; // prettier-ignore
    const net = { ...joules, value: 1e-3, ci: { lo: -1e-3, hi: 3e-3, level: 0.95, method: 'k = 2' }, message: 'Idle power moved.' };
    const measurement = { ...one.measurement, energy: { ...energy, gross: joules, net, sensor: 'rapl' } };
    const html = reportHtml({ ...data, measurements: [...data.measurements, { ...one, jobId: 'e1', purpose: 'energy', measurement }] });
    const section = html.slice(html.indexOf('<h2>Energy</h2>'), html.indexOf('<h2>Every subnet'));
    expect(section).toContain('>1.0 ± 2.0 mJ</a> <em>suspect</em>');
    expect(section).toContain('>2.50 ± 0.10 mJ</a></td>');
    expect(section).toContain('>Idle power moved.</a>');
    const raw = html.slice(html.indexOf('<section id="m-e1">'));
    expect(raw).toContain('net of idle 0.001 J (-0.001 to 0.003, k = 2)');
    expect(raw).toContain('Idle power moved.');
  });

  it('says where the raw times are only the first of the runs', () => {
    const one = data.measurements[0] as ReportData['measurements'][number];
    const latency = { ...one.measurement.latency, n: 31_415 };
    const html = reportHtml({ ...data, measurements: [...data.measurements, { ...one, jobId: 'long', measurement: { ...one.measurement, latency } }] }); // prettier-ignore
    expect(html).toContain('raw times of the first runs of 31415, ms, in order: 40');
  });

  it('survives names that are code', () => {
    const devices = data.devices.map((device) => ({ ...device, name: '<script>alert(1)</script>' }));
    const energy = data.energy.map((entry) => ({ ...entry, deviceName: '"><i>name' }));
    const html = reportHtml({ ...data, devices, energy });
    expect(html.includes('<script>alert')).toBe(false);
    expect(html.includes('"><i>name')).toBe(false);
  });
});

describe('the comparison', () => {
  it('takes the median of what a class measured as its budget, unless one is given', () => {
    const budget = budgetOf(data, 'native');
    const sorted = data.trials.flatMap((trial) => trial.latencyMs['native']?.value ?? []).sort((a, b) => a - b);
    expect(budget?.origin).toBe('median');
    expect(sorted.filter((value) => value <= (budget?.latencyMs ?? 0)).length).toBeGreaterThanOrEqual(sorted.length / 2);
    const given = { ...data, campaign: { ...data.campaign, settings: { ...data.campaign.settings, budgetMs: 7 } } };
    expect(budgetOf(given, 'native')).toMatchObject({ latencyMs: 7, origin: 'given' });
  });

  it('names every way of choosing, and the subnets whose test error it needs', () => {
    const budget = budgetOf(data, 'native');
    if (budget === null) throw new Error('no budget');
    expect(rolesOf(data, budget).map(({ role }) => role)).toEqual(['chosen', 'largest', 'smallest', 'uniform', 'macs', 'random', 'other']);
    const ids = subnetsToTest(data).map((trial) => trial.subnetId);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids).toContain(data.baselines[0]?.baseline.subnetId);
  });

  it('calls overlapping intervals a tie, and says where the choice of the search loses', () => {
    const rows = compare(data)[0]?.rows ?? [];
    const chosen = rows.find((row) => row.role === 'chosen');
    const random = rows.find((row) => row.role === 'random');
    expect(chosen?.withinBudget).toBe(true);
    expect(random?.latency?.value).toBeCloseTo(0.28);
    const twin = {
      ...data,
      accuracies: data.accuracies.map((row) => (row.subnetId === random?.subnetId ? { ...row, correct: row.total } : row)),
    };
    expect(compare(twin)[0]?.rows.find((row) => row.role === 'random')?.sentence).toMatch(/points fewer errors than ours.*Here ours loses/);
    const same = { ...data, accuracies: data.accuracies.map((row) => ({ ...row, correct: 2000 })) };
    for (const row of compare(same)[0]?.rows ?? []) {
      if (row.subnetId !== null && row.subnetId !== chosen?.subnetId)
        expect(row.sentence).toContain('ties with it in error (the intervals overlap)');
    }
  });

  it('says what the fastest subnet is where none keeps the budget, and chooses nothing', () => {
    const tight = { ...data, campaign: { ...data.campaign, settings: { ...data.campaign.settings, budgetMs: 0.001 } } };
    const chosen = compare(tight)[0]?.rows[0];
    expect(chosen).toMatchObject({ role: 'chosen', subnetId: null });
    expect(chosen?.sentence).toMatch(/No measured subnet meets 0.001 ms on native: the fastest is .* ms ± /);
    expect(reportHtml(tight)).toContain('No measured subnet meets');
  });
});

describe('the files of a report', () => {
  it('hold every trial and the raw times of every measurement, and replace those of an earlier report, but no file of others', () => {
    const out = mkdtempSync(join(tmpdir(), 'ofa-report-'));
    try {
      expect(writeReport(data, out).ok).toBe(true);
      writeFileSync(join(out, 'samples', 'stale.json'), '{ "jobId": "stale" }');
      writeFileSync(join(out, 'samples', 'voices.json'), '{}');
      writeFileSync(join(out, 'samples', 'drum.wav'), 'RIFF');
      expect(writeReport(data, out).ok).toBe(true);
      const others = ['drum.wav', 'voices.json'];
      expect(readdirSync(join(out, 'samples'))).toEqual(expect.arrayContaining(others));
      const samples = readdirSync(join(out, 'samples')).filter((name) => !others.includes(name));
      expect(samples).toHaveLength(data.measurements.length);
      const { trials } = JSON.parse(readFileSync(join(out, 'trials.json'), 'utf8')) as { trials: { measurements: string[] }[] };
      expect(trials).toHaveLength(data.campaign.tells.length);
      for (const trial of trials) for (const id of trial.measurements) expect(samples).toContain(`${id}.json`);
      const csv = readFileSync(join(out, 'trials.csv'), 'utf8').trimEnd().split('\r\n');
      expect(csv).toHaveLength(1 + trials.length);
      expect(csv[0]?.split(',').length).toBe(13);
      expect(readFileSync(join(out, 'front.svg'), 'utf8')).toMatch(/^<svg[\s\S]*<\/svg>$/);
    } finally {
      rmSync(out, { recursive: true, force: true });
    }
  });

  it('say in one sentence why they could not be written', () => {
    const file = join(mkdtempSync(join(tmpdir(), 'ofa-report-')), 'file');
    writeFileSync(file, '');
    const written = writeReport(data, join(file, 'below'));
    expect(written).toMatchObject({ ok: false });
    expect(written.ok ? '' : written.message).toContain('Give another folder with --out.');
  });

  it('write genes so that a reader can rebuild the subnet, and quote what a table program would split', () => {
    const row = trialRows(data)[0];
    expect(row?.genes).toMatch(/^k\de\d(,k\de\d)*(\|k\de\d(,k\de\d)*)*$/);
  });

  it('draw every device, its front and the choice of the search', () => {
    const svg = frontSvg(data);
    for (const name of [...CLASSES, 'choice', 'largest', 'best uniform']) expect(svg).toContain(name);
    expect(svg).not.toContain('NaN');
  });
});
