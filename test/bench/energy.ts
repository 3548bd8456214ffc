// `npm run bench:energy`: joules on simulated sensors whose truth is known. First over random measurements in virtual time, beside the published
// rules of other tools on the same readings; then, where ENERGY_PYTHON has them, beside Zeus, pyJoules, CodeCarbon and jtop themselves on one tree.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { ascending, median, quantile } from '@ofa-fleet/shared/statistics.ts';
import { countChanges } from '../../agent/energy.ts';
import { energyPerInference } from '../../agent/energy-figure.ts';
import { discoverMeters, meterHost } from '../../agent/node/meters/discover.ts';
import { recordMeter } from '../../agent/node/meters/recorder.ts';
import type { MeterRecorder } from '../../agent/ports.ts';
import { answer, drawScenario, emptyScore, KINDS, scoreInto, type Scenario, type Score } from '../helpers/energy-scenarios.ts';
import { ina3221, record, seeded, simulateDevice, STEADY } from '../helpers/simulated-sensors.ts';
import { makeTree } from '../helpers/sysfs-tree.ts';

const { ENERGY_PYTHON: python = 'python3', ENERGY_EACH: eachText = '300' } = process.env;
const EACH = Number(eachText);
const FIRST_SEED = 1000;

const say = (line: string) => process.stdout.write(`${line}\n`);
const percent = (share: number, digits = 2) => `${(100 * share).toFixed(digits)} %`;

function table(rows: readonly (readonly string[])[]): void {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  for (const row of rows)
    say(row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0))).join('  '));
  say('');
}

/** Gross joules of the load window by rules that others publish, told in words of ours; null: that rule does not take such a sensor. */
const RULES: Readonly<Record<string, (scenario: Scenario) => number | null>> = {
  // zeus.monitor.power: samples that changed, trapezoid between those inside of the window, 0 where there are fewer than two.
  'Zeus PowerMonitor (changed samples, trapezoid)': ({ readings }) => {
    if (readings?.info.kind !== 'power') return null;
    const { trace, load } = readings;
    let joules = 0;
    let last: { at: number; watts: number } | null = null;
    for (const [i, watts] of trace.values.entries()) {
      const at = trace.atMs[i] as number;
      if (at < load.startMs || at > load.endMs || watts === trace.values[i - 1]) continue;
      if (last !== null) joules += ((last.watts + watts) / 2) * ((at - last.at) / 1000);
      last = { at, watts };
    }
    return joules;
  },
  // zeus.device.soc.jetson: what is read every 100 ms holds since the reading before.
  'Zeus Jetson (right rectangles, 100 ms)': ({ readings, sensor, device }) => {
    if (readings?.info.kind !== 'power') return null;
    let joules = 0;
    for (let at = readings.load.startMs + 100; at <= readings.load.endMs; at += 100) joules += sensor.show(device, at) * 0.1;
    return joules;
  },
  'jtop (mean of a 1 s poll × time)': ({ readings, sensor, device }) => {
    if (readings?.info.kind !== 'power') return null;
    const { startMs, endMs } = readings.load;
    const polls: number[] = [];
    for (let at = 1000 * Math.ceil(startMs / 1000) + 370; at <= endMs; at += 1000) polls.push(sensor.show(device, at));
    if (polls.length === 0) polls.push(sensor.show(device, 1000 * Math.floor(startMs / 1000) - 630));
    return (polls.reduce((sum, watts) => sum + watts, 0) / polls.length) * ((endMs - startMs) / 1000);
  },
  // pyJoules and others: counter after less counter before, as it is.
  'counter difference (pyJoules)': ({ readings, sensor, device }) =>
    readings?.info.kind === 'counter' ? sensor.show(device, readings.load.endMs) - sensor.show(device, readings.load.startMs) : null,
};

function virtualTime(): void {
  const scores = new Map<string, Score>(KINDS.map((kind) => [kind, emptyScore(kind)]));
  const rules = new Map(Object.keys(RULES).map((name) => [name, { asked: 0, errors: [] as number[], resolvable: [] as number[] }]));
  for (const [kind, score] of scores) {
    for (let i = 0; i < EACH; i++) {
      const scenario = drawScenario(FIRST_SEED + i, kind as Scenario['kind']);
      scoreInto(score, scenario, answer(scenario));
      for (const [name, rule] of Object.entries(RULES)) {
        const joules = rule(scenario);
        const seen = rules.get(name);
        if (joules === null || seen === undefined || scenario.readings === null) continue;
        seen.asked += 1;
        const error = Math.abs(joules / scenario.readings.inferences / scenario.gain / scenario.truth.gross - 1);
        seen.errors.push(error);
        if (scenario.mustRefuse === null) seen.resolvable.push(error);
      }
    }
  }
  const all = [...scores.values()];
  say(`${EACH * all.length} random measurements in virtual time (seeds ${FIRST_SEED} to ${FIRST_SEED + EACH - 1} of each sensor).`);
  say('Coverage of the 95 % interval of gross / net; widths are medians of the half-width; |error| of gross with the gain known.');
  say('');
  const row = (name: string, some: readonly Score[]): string[] => {
    const sum = (of: (score: Score) => number) => some.reduce((total, score) => total + of(score), 0);
    const given = sum((score) => score.given);
    const share = (of: (score: Score) => number) => (given === 0 ? '-' : (sum(of) / given).toFixed(3));
    const middle = (of: (score: Score) => readonly number[]) => (given === 0 ? '-' : percent(median(some.flatMap(of))));
    const errors = some.flatMap((score) => score.errors);
    return [
      name,
      String(given),
      String(sum((score) => score.refused)),
      `${sum((score) => score.wronglyRefused)} / ${sum((score) => score.wronglyGiven)}`,
      `${share((score) => score.covered.gross)} / ${share((score) => score.covered.net)}`,
      `${middle((score) => score.widths.gross)} / ${middle((score) => score.widths.net)}`,
      `${share((score) => score.covered.grossKnownGain)} / ${share((score) => score.covered.netKnownGain)}`,
      `${middle((score) => score.widths.grossKnownGain)} / ${middle((score) => score.widths.netKnownGain)}`,
      given === 0 ? '-' : `${percent(median(errors))} / ${percent(Math.max(...errors))}`,
    ];
  };
  table([
    [
      'sensor',
      'given',
      'refused',
      'refused / given wrongly',
      'coverage',
      '± width',
      'coverage, gain known',
      '± width, gain known',
      '|error| median / worst',
    ],
    ...all.map((score) => row(score.kind, [score])),
    row('all', all),
  ]);
  say('The rules of others on the same readings, by hand (none of them gives an interval or refuses):');
  const error = (errors: readonly number[]) =>
    errors.length === 0
      ? '-'
      : `${percent(median(errors))} / ${percent(quantile(ascending(errors), 0.9))} / ${percent(Math.max(...errors), 0)}`;
  table([
    ['rule', 'figures', '|error| of all: median / 90th / worst', 'where ours gives one', 'beyond 2 %'],
    ...[...rules].map(([name, { asked, errors, resolvable }]) => [
      name,
      String(asked),
      error(errors),
      error(resolvable),
      percent(errors.filter((one) => one > 0.02).length / Math.max(1, errors.length), 0),
    ]),
  ]);
}

/** HW-NAS-Bench on a TX2: 50 runs of a 5.8 ms model, the rail read every 0.1 s, their mean times the time. */
function hwNasBench(): void {
  const errors: number[] = [];
  let refused = 0;
  for (let seed = 1; seed <= 200; seed++) {
    const random = seeded(seed);
    const noise = { noise: 0.02, noiseMs: 20 };
    const device = simulateDevice({ ...STEADY, watts: 8, ...noise }, { ...STEADY, watts: 17, ...noise }, random);
    const sensor = ina3221({ random, gain: 1, gainU: 0.05 }, 0.04);
    device.spend(6000 + Math.floor(100 * random()), false);
    const load = { startMs: device.nowMs(), endMs: device.nowMs() + 290 };
    device.spend(290, true);
    device.spend(6100, false);
    const polls = [100, 200, 290].map((at) => sensor.show(device, load.startMs + at));
    const truth = device.joulesAt(load.endMs) - device.joulesAt(load.startMs);
    errors.push(((polls.reduce((sum, watts) => sum + watts, 0) / polls.length) * 0.29) / truth - 1);
    const readings = {
      info: sensor.info,
      trace: record(sensor, device, random),
      refreshMs: 100,
      before: { startMs: 1000, endMs: load.startMs },
      load,
      after: { startMs: load.endMs + 1000, endMs: load.endMs + 6000 },
      inferences: 50,
    };
    if (energyPerInference(readings).energy.net.reason === 'SENSOR_TOO_SLOW') refused += 1;
  }
  const sorted = ascending(errors);
  say(
    `HW-NAS-Bench's rule (50 runs of 5.8 ms, 3 readings of a rail, 8 W idle and 25 W under load; by hand): median ${percent(median(errors), 1)},`,
  );
  say(
    `90 % of figures between ${percent(quantile(sorted, 0.05), 1)} and ${percent(quantile(sorted, 0.95), 1)}. Ours refuses ${refused} of ${errors.length} (SENSOR_TOO_SLOW).`,
  );
  say('');
}

interface LiveCase {
  readonly seconds: number;
  readonly wraps: boolean;
}
interface LiveAnswer {
  readonly beganMs: number;
  readonly endedMs: number;
  readonly trueJoules: number;
  readonly tools: Readonly<Record<string, number>>;
}

const TRIALS: readonly (readonly [seconds: number, wraps: boolean, times: number])[] = [
  [0.05, false, 4],
  [0.5, false, 4],
  [5, false, 3],
  [0.5, true, 3],
  [5, true, 3],
];

/** Ours: joules of the load window, or the reason; the same thread that measures on devices has recorded. */
function ours(recorder: MeterRecorder, { beganMs, endedMs }: LiveAnswer): number | string {
  const shiftMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();
  const load = { startMs: beganMs - shiftMs, endMs: endedMs - shiftMs };
  const trace = recorder.trace();
  if (recorder.refreshMs === null) return 'SENSOR_STALE';
  const before = { startMs: load.startMs - 1000, endMs: load.startMs - 100 };
  const after = { startMs: load.endMs + 500, endMs: load.endMs + 1400 };
  const { energy } = energyPerInference({ info: recorder.info, trace, refreshMs: recorder.refreshMs, before, load, after, inferences: 1 });
  return energy.gross.value ?? `${energy.gross.reason} (${countChanges(trace, load)} readings)`;
}

async function live(): Promise<void> {
  const hwmon = 'bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon0';
  const tree = makeTree({
    'class/powercap/intel-rapl:0/name': 'package-0',
    'class/powercap/intel-rapl:0/energy_uj': 0,
    'class/powercap/intel-rapl:0/max_energy_range_uj': 65_532_610_987,
    [`${hwmon}/name`]: 'ina3221',
    [`${hwmon}/in1_label`]: 'VDD_IN',
    [`${hwmon}/in1_input`]: 5000,
    [`${hwmon}/curr1_input`]: 1600,
    [`${hwmon}/update_interval`]: 100,
  });
  const cases: LiveCase[] = TRIALS.flatMap(([seconds, wraps, times]) => Array.from({ length: times }, () => ({ seconds, wraps })));
  const child = spawn(python, [fileURLToPath(new URL('energy_peers.py', import.meta.url)), tree.root, JSON.stringify(cases)], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let complaint = '';
  child.stderr.on('data', (chunk: Buffer) => (complaint = (complaint + chunk.toString()).slice(-2000)));
  const results = new Map<string, { readonly errors: Map<LiveCase, number>; readonly words: Map<LiveCase, string> }>();
  const of = (name: string) => {
    const known = results.get(name) ?? { errors: new Map<LiveCase, number>(), words: new Map<LiveCase, string>() };
    results.set(name, known);
    return known;
  };
  try {
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const next = async (): Promise<unknown> => {
      for (;;) {
        const line = await lines.next();
        if (line.done === true) return null;
        if (line.value.startsWith('{')) return JSON.parse(line.value); // their libraries print lines of their own
      }
    };
    const { meters } = discoverMeters(meterHost(tree.root));
    const chosen = (['package', 'module'] as const).flatMap((boundary) => meters.find(({ info }) => info.boundary === boundary) ?? []);
    for (const one of cases) {
      if ((await next()) === null) {
        say(`Other tools were not run: ${python} ended with: ${complaint.trim().split('\n').at(-1) ?? ''}`);
        say(
          'To run them: python3 -m venv V && V/bin/pip install zeus==0.16.0 pyJoules==0.5.1 codecarbon==3.3.2 jetson-stats, then ENERGY_PYTHON=V/bin/python npm run bench:energy',
        );
        return;
      }
      const recorders = await Promise.all(chosen.map((meter) => recordMeter(meter)));
      child.stdin.write('go\n');
      const answered = (await next()) as LiveAnswer;
      await new Promise((resolve) => setTimeout(resolve, 2000));
      for (const [name, joules] of Object.entries(answered.tools)) of(name).errors.set(one, joules / answered.trueJoules - 1);
      for (const recorder of recorders) {
        const got = ours(recorder, answered);
        const into = of(`ours, ${recorder.info.sensor}`);
        if (typeof got === 'number') into.errors.set(one, got / answered.trueJoules - 1);
        else into.words.set(one, got.split(' ')[0] ?? got);
        await recorder.stop();
      }
      child.stdin.write('next\n');
    }
  } finally {
    child.kill();
    tree.remove();
  }
  say(
    'Other tools themselves beside ours, in real time on one tree: 8 W idle, 25 W in the window; error of the joules, median (least … most).',
  );
  const cell = (name: string, seconds: number, wraps: boolean): string => {
    const { errors, words } = of(name);
    const mine = [...errors].filter(([one]) => one.seconds === seconds && one.wraps === wraps).map(([, error]) => error);
    const said = [...words].filter(([one]) => one.seconds === seconds && one.wraps === wraps).map(([, word]) => word);
    if (mine.length === 0) return said[0] === undefined ? '-' : `refused: ${said[0]}`;
    const show = (share: number) => (Math.abs(share) > 10 ? `${(share * 25 * seconds).toFixed(0)} J` : percent(share, 1));
    return `${show(median(mine))} (${show(Math.min(...mine))} … ${show(Math.max(...mine))})`;
  };
  table([
    ['tool', ...TRIALS.map(([seconds, wraps]) => `${seconds} s${wraps ? ', counter wraps' : ''}`)],
    ...[...results.keys()].sort().map((name) => [name, ...TRIALS.map(([seconds, wraps]) => cell(name, seconds, wraps))]),
  ]);
}

virtualTime();
hwNasBench();
await live();
process.exit(0);
