// The planted bugs: each a small change by which a number would be wrong or a doubt would be lost, and the tests that must notice.
// Whoever changes a line that is named here changes it here too: a text that is not found fails the run, so the list cannot rot.

export interface Mutant {
  readonly file: string;
  /** Must occur exactly once in the file. */
  readonly old: string;
  readonly planted: string;
  /** Run together; one that fails is enough. */
  readonly tests: readonly string[];
  /** What would be wrong then. */
  readonly wrong: string;
}

type Bug = readonly [old: string, planted: string, wrong: string];

const bugs = (file: string, tests: readonly string[], list: readonly Bug[]): readonly Mutant[] =>
  list.map(([old, planted, wrong]) => ({ file, old, planted, tests, wrong }));

const STATISTICS = bugs('shared/statistics.ts', ['test/shared/statistics.test.ts', 'test/shared/interval-width.test.ts'], [
  ['[...values].sort((a, b) => a - b)', '[...values].sort()', 'numbers are sorted as text, so 10 comes before 9'],
  ['const value = quantile(sorted, 0.5);', 'const value = quantile(values, 0.5);', 'the median is the run in the middle of the session, not of the order'],
  ['(sorted.length - 1) * q', 'sorted.length * q', 'every quantile is that of a longer list'],
  ['Math.abs(value - middle)', '(value - middle)', 'deviations of both signs cancel in the MAD'],
  ['const coverage = 1 - 2 * tail;', 'const coverage = 1 - tail;', 'an interval of the median covers 90 % and says 95 %'],
  ['n / (1 + 2 * sum)', 'n / (1 + sum)', 'correlated runs count for more than they are worth'],
  ['if (pair <= 0) break;', 'if (pair <= 1) break;', 'runs are taken as independent'],
  ['const widen = Math.sqrt(n / nEff);', 'const widen = 1;', 'the interval of correlated runs is as narrow as that of independent ones'],
  ['nEff < n / 2 && n >= BATCHES * 5', 'n < 0', 'strongly correlated runs are never put into batches'],
  ['(estimate.ci.hi - estimate.ci.lo) / 2 / estimate.value', '(estimate.ci.hi - estimate.ci.lo) / 4 / estimate.value', 'a number is said to be twice as precise as it is'],
]); // prettier-ignore

const MEASURE = bugs('agent/measure.ts', ['test/agent/measure.test.ts'], [
  ['    if (idleMs > 0) await clock.sleep(idleMs);\n    const began = clock.monotonicMs();\n', '    const began = clock.monotonicMs();\n    if (idleMs > 0) await clock.sleep(idleMs);\n', 'the gap before a run is counted as run time'],
  ['Math.abs(now / before - 1) <= STEADY_WITHIN', 'now / before - 1 <= STEADY_WITHIN', 'runs that still get faster count as steady'],
  ['return { steady, windows, runs, medianMs: now };', 'return { steady: true, windows, runs, medianMs: now };', 'a device that never became steady is called steady'],
  ['relativeHalfWidth(estimate) <= plan.relativeHalfWidth', '(1.96 * Math.sqrt(samples.reduce((sum, v) => sum + (v - estimate.value) ** 2, 0))) / samples.length / estimate.value <= plan.relativeHalfWidth', 'the stop rule looks at the mean, the figure is a median'],
  ['estimate.nEff >= neededSamples && relativeHalfWidth', 'relativeHalfWidth', 'the stop rule is content with correlated runs'],
  ['capped: !done, minuteMediansMs: null', 'capped: false, minuteMediansMs: null', 'a number that the cap cut short does not say so'],
  ['if (wrong !== null) {', 'if (wrong === "") {', 'a model that computes something else is measured all the same'],
  ['verdict: { ...verdict, findings: [...verdict.findings, ...findings] }', "verdict: { state: 'valid', findings: [...verdict.findings, ...findings] }", 'the verdict is dropped: every number is valid'],
]); // prettier-ignore

const VERDICT = bugs('agent/verdict.ts', ['test/agent/verdict.test.ts', 'test/agent/verdict-few-runs.test.ts'], [
  ['Math.max(OUTLIER_MADS *', 'Math.min(OUTLIER_MADS *', 'microseconds of a regular model are called disturbance'],
  ['if (share <= OUTLIER_SHARE) return [];', 'if (share <= 1) return [];', 'runs far above the median are overlooked'],
  ['if (warmUp.steady) return [];', 'if (warmUp.windows > 0) return [];', 'NOT_STEADY is never said'],
  ['estimate.n >= MIN_RUNS && estimate.nEff >= neededSamples', 'estimate.n >= MIN_RUNS && estimate.n >= neededSamples', 'correlated runs count as independent ones'],
  ['first.ci.hi < second.ci.lo || second.ci.hi < first.ci.lo', 'second.ci.hi < first.ci.lo', 'a device that slows during the runs is overlooked'],
  ["effects.includes('invalid') ? 'invalid' : ", '', 'an invalid number is called suspect at most'],
]); // prettier-ignore

const MACHINE = bugs('agent/machine-findings.ts', ['test/agent/verdict.test.ts'], [
  ['periods === null || periods <= 0', 'periods === null || periods <= 1', 'one stop by a quota is overlooked'],
  ['Math.min(clock.min, clock.end) / clock.start', 'clock.end / clock.start', 'a clock that fell and rose again is overlooked'],
  ['share === null || share <= FOREIGN_SUSPECT', 'share === null || share <= FOREIGN_INVALID', 'a neighbour that takes a tenth of the machine is overlooked'],
  ["effect: share > FOREIGN_INVALID ? 'invalid' : 'suspect'", "effect: 'suspect'", 'a neighbour that takes half of the machine leaves the number usable'],
  ["if (seen.length === 0) return [];", 'if (seen.length >= 0) return [];', 'a board that its firmware throttled is believed'],
  ["if (firmwareEvents?.seen.includes('under-voltage') === true) {", "if (firmwareEvents?.seen.includes('throttled') === true) {", 'under-voltage is overlooked'],
  ["effect: clockMoved(evidence).length > 0 ? 'invalid' : 'suspect',", "effect: 'suspect',", 'over-current that lowered the clock leaves the number usable'],
  ["if ((thermalThrottles ?? 0) > 0) {", 'if ((thermalThrottles ?? 0) > 1e9) {', 'a processor that slowed for its heat is believed'],
]); // prettier-ignore

const CONDITIONS = bugs('agent/node/conditions.ts', ['test/agent/node/conditions.test.ts'], [
  ['+ softirq + steal;', '+ softirq;', 'time that a hypervisor took is nobody\'s'],
  [' - (end.ownMs - start.ownMs)', '', 'our own work counts as a neighbour\'s'],
  ['cgroupThrottledPeriods: difference(start.throttled, end.throttled)', 'cgroupThrottledPeriods: end.throttled', 'stops of before the run count against it'],
  ['>= VISITED_SHARE', '> 0', 'a clock state of a moment counts as the clock of the run'],
  ['events: events >= before ? events - before : events', 'events', 'alarms of before the run count against it'],
  ['pastEvents(end).filter((event) => !before.includes(event))', 'pastEvents(end)', 'a flag that was set before the run counts as an event of the run'],
  ['liveEvents(live | start | end)', 'liveEvents(start | end)', 'what the firmware did in the middle of the run is overlooked'],
]); // prettier-ignore

const ENERGY = [
  ...bugs('agent/energy.ts', ['test/agent/energy.test.ts'], [
    ['value - before + wraps * wrapJoules', 'value - before + 2 * wraps * wrapJoules', 'the range of a counter that wrapped is added twice'],
    ['return step <= MAX_WATTS * seconds ? step : null;', 'return step;', 'a counter that was reset counts as one that wrapped'],
    ['(((watts[i - 1] as number) + (watts[i] as number)) / 2)', '(watts[i - 1] as number)', 'left rectangles instead of trapezoids: a rising power is counted too small'],
    ['joules += headSeconds * head + tailSeconds * tail;', '', 'the ends of a window without readings draw nothing'],
    ['last.joules - first.joules + headSeconds', 'headSeconds', 'a counter tells of the ends of a window only'],
    [' + headSeconds * wattsBetween(first, early)', '', 'a counter is read before its last change at the beginning of the load'],
    ['if (values[i] !== values[i - 1] && at >= startMs', 'if (at >= startMs', 'repeated readings count as readings of their own'],
    ["return info.kind === 'counter' ? settleMs : settleMs + 2 * refreshMs;", 'return 0;', 'readings that still tell of the idle time are taken for the load'],
  ]),
  ...bugs('agent/energy-figure.ts', ['test/agent/energy.test.ts', 'test/agent/energy-distinct.test.ts'], [
    ['joules - ((idleBefore.watts + idleAfter.watts) / 2) * seconds', 'joules + ((idleBefore.watts + idleAfter.watts) / 2) * seconds', 'idle energy is added instead of subtracted'],
    ['((idleBefore.watts + idleAfter.watts) / 2) * seconds', 'idleBefore.watts * seconds', 'idle power after the load is not looked at'],
    ['Math.hypot(uNet, info.gain * net)', 'Math.hypot(uNet, info.gain * net, info.gain * joules)', 'the gain is applied twice to the net figure'],
    ['const value = joules / inferences;', 'const value = Math.max(0, joules / inferences);', 'a net energy below zero is clipped'],
    ['(COVERAGE_FACTOR * u) / inferences', 'u / inferences', 'one standard uncertainty is published as 95 %'],
    ['const uDrift = (seconds * moved) / Math.sqrt(12);', 'const uDrift = 0;', 'idle power that moved does not widen the interval'],
    ['const MIN_DISTINCT = 20;', 'const MIN_DISTINCT = 2;', 'three readings make a figure'],
    ["kind !== 'counter' || joules >= MIN_LSBS * lsb", "kind !== 'counter' || joules >= 0", 'a counter that moved by a step or two makes a figure'],
    ['if (moved > movedLimit) {', 'if (moved < 0) {', 'IDLE_MOVED is never said'],
  ]),
]; // prettier-ignore

const THROTTLE = bugs('agent/node/throttle.ts', ['test/agent/node/conditions.test.ts'], [
  ['const STICKY_SHIFT = 16;', 'const STICKY_SHIFT = 8;', 'flags of the past are looked for at the wrong bits'],
  ["{ board: /nvidia,tegra234/, inputs: ['oc1'] }", "{ board: /nvidia,tegra234/, inputs: ['oc2'] }", 'an Orin that is short of voltage is said to draw too much'],
]); // prettier-ignore

const METERS = [
  ...bugs('agent/node/meters/hwmon.ts', ['test/agent/node/meters.test.ts'], [
    ['const PER_MICRO = 1e-6;', 'const PER_MICRO = 1e-3;', 'microwatts are read as milliwatts'],
  ]),
  ...bugs('agent/node/meters/rapl.ts', ['test/agent/node/meters.test.ts'], [
    ['range * JOULES_PER_MICROJOULE', 'range', 'the range of the counter is a million times too large'],
    ['packages.every((other) => other.wrapJoules === first.wrapJoules)', 'packages.length > 0', 'the sum of two counters of different ranges is unwrapped by one of them'],
    ["if (packages.has(name)) {", "if (packages.has('')) {", 'the second view of a package is not said to be one'],
  ]),
  ...bugs('agent/node/meters/ina3221.ts', ['test/agent/node/meters/jetson.test.ts'], [
    ['term: { paths, scale: MICRO }', 'term: { paths, scale: MILLI }', 'volts times amperes come out a thousand times too large'],
    ['scale: MILLI };', 'scale: MICRO };', 'milliwatts are read as microwatts'],
  ]),
  ...bugs('agent/node/meters/jetson-rails.ts', ['test/agent/node/meters/jetson.test.ts'], [
    ['rails.every((rail) =>', 'rails.some((rail) =>', 'a part of a sum is shown as the whole module'],
  ]),
  ...bugs('agent/node/meters/tegrastats-line.ts', ['test/agent/node/meters/jetson.test.ts'], [
    ['total.rails.reduce((sum, rail) => sum + (rails.get(rail) ?? 0), 0)', '[...rails.values()].reduce((sum, one) => sum + one, 0)', 'rails inside of the total are added to it'],
  ]),
  ...bugs('agent/node/joule-counter.ts', ['test/agent/node/joule-counter.test.ts'], [
    ['return now >= before ? now - before : stepOverWrap(before, now, seconds, info.wrapJoules);', 'return now - before;', 'a deployment gains negative joules at each wrap'],
  ]),
  ...bugs('agent/node/meters/rapl.ts', ['test/agent/node/meters.test.ts', 'test/agent/node/meters/counters.test.ts'], [
    ['if (packages.size > 0 && missing.length > 0) {', 'if (packages.size < 0) {', 'one socket of two is shown as the machine'],
  ]),
  ...bugs('agent/node/meters/battery-grammar.ts', ['test/agent/node/battery.test.ts'], [
    ["if (status !== 'Discharging') return { kind: 'on-charger', status };", '', 'a gauge is believed while the charger feeds the device'],
    ["if (current === null || current === 0) return unknown('its gauge shows 0 while it discharges');", '', 'a gauge that shows 0 while discharging says 0 W'],
    ['size < LEAST_MICROAMPERES ? size * 1000 : size', 'size', 'milliamperes are read as microamperes'],
  ]),
  ...bugs('agent/node/meters/plug-grammar.ts', ['test/agent/node/plug.test.ts'], [
    ['const JOULES_PER_WATT_HOUR = 3600;', 'const JOULES_PER_WATT_HOUR = 3.6;', 'watt-hours are read as milliwatt-hours'],
    ['if (data.power === 0 && (data.current ?? 0) > 0) return null;', '', 'a false zero of a plug is a reading'],
  ]),
  ...bugs('agent/node/meters/pmic-adc.ts', ['test/agent/node/meters/pmic.test.ts'], [
    ['if (voltage === undefined) return null;', 'if (voltage === undefined) continue;', 'an answer cut off shows less than the board draws'],
  ]),
]; // prettier-ignore

export const MUTANTS: readonly Mutant[] = [
  ...STATISTICS,
  ...MEASURE,
  ...VERDICT,
  ...MACHINE,
  ...CONDITIONS,
  ...THROTTLE,
  ...ENERGY,
  ...METERS,
];
