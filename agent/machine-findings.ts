// What the state of the machine around a run says about its number: throttling, supply, clocks, load of others, chargers. Pure.
import type { Energy, Plan, RunConditions, Verdict } from '@ofa-fleet/shared/measurement.ts';

export type Finding = Verdict['findings'][number];

export interface MachineEvidence {
  readonly plan: Plan;
  readonly conditions: RunConditions;
  /** As measured after the timed runs; absent where nobody cares for it. */
  readonly energy?: Energy;
}

type Rule = (evidence: MachineEvidence) => readonly Finding[];

const FOREIGN_SUSPECT = 0.05;
const FOREIGN_INVALID = 0.2;
const CLOCK_SUSPECT = 0.95;
const CLOCK_INVALID = 0.75;
const DISCHARGING = 'Discharging';

export const percent = (share: number): string => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
const times = (count: number): string => (count === 1 ? 'once' : `${count} times`);

const throttledByQuota: Rule = ({ conditions: { cgroupThrottledPeriods: periods } }) => {
  if (periods === null || periods <= 0) return [];
  return [
    {
      reason: 'THROTTLED',
      effect: 'invalid',
      message: `The CPU quota of this process's cgroup stopped it in ${periods} periods (limit 0). Lift the quota (cpu.max, cpu.cfs_quota_us) and measure again.`,
    },
  ];
};

const FIRMWARE_WORDS = {
  'frequency-capped': 'capped the clock',
  throttled: 'throttled the processor',
  'soft-temperature-limit': 'lowered the clock at its soft temperature limit',
} as const;

const throttledByFirmware: Rule = ({ conditions: { firmwareEvents } }) => {
  const seen = (firmwareEvents?.seen ?? []).filter((event) => event !== 'under-voltage');
  if (seen.length === 0) return [];
  const what = seen.map((event) => FIRMWARE_WORDS[event]).join(' and ');
  return [
    {
      reason: 'THROTTLED',
      effect: 'invalid',
      message: `The board's firmware ${what} during the run (vcgencmd get_throttled; limit: never). Cool the board (heat sink, fan), give it its own power supply, and measure again.`,
    },
  ];
};

const throttledByHeat: Rule = ({ conditions: { thermalThrottles, cooling, temperatureC } }) => {
  const findings: Finding[] = [];
  const heat = temperatureC === null ? '' : ` at up to ${(temperatureC.max ?? temperatureC.end).toFixed(0)} °C`;
  const next = 'Let the device cool, improve its cooling, and measure again.';
  if ((thermalThrottles ?? 0) > 0) {
    const message = `The processor throttled itself for its temperature ${times(thermalThrottles ?? 0)}${heat} (core_throttle_count; limit 0). ${next}`;
    findings.push({ reason: 'THROTTLED', effect: 'invalid', message });
  }
  if ((cooling ?? []).length > 0) {
    const devices = (cooling ?? []).map(({ device, state }) => `${device} at state ${state}`).join(', ');
    const message = `The kernel slowed the processor for its temperature${heat}: ${devices} (limit 0). ${next}`;
    findings.push({ reason: 'THROTTLED', effect: 'invalid', message });
  }
  return findings;
};

const underVoltage: Rule = ({ conditions: { firmwareEvents, supplyAlarms } }) => {
  const findings: Finding[] = [];
  if (firmwareEvents?.seen.includes('under-voltage') === true) {
    const message =
      'The supply voltage fell below the limit of the board (4.63 V on a Raspberry Pi) during the run. Use the power supply made for it and a short thick cable, then measure again.';
    findings.push({ reason: 'UNDER_VOLTAGE', effect: 'invalid', message });
  }
  for (const { input, kind, events } of supplyAlarms ?? []) {
    if (kind !== 'under-voltage' || events <= 0) continue;
    const message = `The supply voltage fell below the limit of the board ${times(events)} during the run (${input}_event_cnt; limit 0). Use a stronger power supply or a lower power mode (nvpmodel -m), then measure again.`;
    findings.push({ reason: 'UNDER_VOLTAGE', effect: 'invalid', message });
  }
  return findings;
};

const clockMoved: Rule = ({ conditions: { clockMHz: clock } }) => {
  if (clock === null) return [];
  const share = Math.min(clock.min, clock.end) / clock.start;
  if (share >= CLOCK_SUSPECT) return [];
  return [
    {
      reason: 'CLOCK_MOVED',
      effect: share < CLOCK_INVALID ? 'invalid' : 'suspect',
      message:
        `The CPU clock fell from ${clock.start.toFixed(0)} to ${(share * clock.start).toFixed(0)} MHz, ${percent(share)} of its start ` +
        `(limits ${percent(CLOCK_SUSPECT)}, ${percent(CLOCK_INVALID)}). Let the device cool or set the governor to performance, then measure again.`,
    },
  ];
};

/** Alarms alone cost little: one Orin counted 27,390 in an hour and was throttled almost never. With a clock that fell they explain it. */
const overCurrent: Rule = (evidence) =>
  (evidence.conditions.supplyAlarms ?? [])
    .filter(({ kind, events }) => kind === 'over-current' && events > 0)
    .map(({ input, events }) => ({
      reason: 'OVER_CURRENT',
      effect: clockMoved(evidence).length > 0 ? 'invalid' : 'suspect',
      message: `The board drew more current than its limit ${times(events)} during the run (${input}_event_cnt; limit 0), and slows its clocks for a moment each time. Choose a lower power mode (nvpmodel -m) and measure again.`,
    }));

const foreignLoad: Rule = ({ conditions: { foreignCpuShare: share, stolenCpuShare: stolen } }) => {
  if (share === null || share <= FOREIGN_SUSPECT) return [];
  const limits = `(limits ${percent(FOREIGN_SUSPECT)}, ${percent(FOREIGN_INVALID)})`;
  const isStolen = (stolen ?? 0) > share / 2;
  return [
    {
      reason: 'NEIGHBOUR_LOAD',
      effect: share > FOREIGN_INVALID ? 'invalid' : 'suspect',
      message: isStolen
        ? `Others took ${percent(share)} of the CPU time of all cores ${limits}, most of it other virtual machines on this host (${percent(stolen ?? 0)} stolen). Measure when the host is idle, or on a machine of its own.`
        : `Other processes took ${percent(share)} of the CPU time of all cores ${limits}. Stop them (top shows which) and measure again.`,
    },
  ];
};

const uncontrolled: Rule = (evidence) => {
  const { governor, battery } = evidence.conditions;
  // whether the clock could move matters only where it did
  const effect = clockMoved(evidence).length > 0 ? 'suspect' : 'information';
  const findings: Finding[] = [];
  if (governor !== 'performance' && governor !== 'userspace') {
    const seen = governor === null ? 'This machine does not show its CPU clocks' : `The CPU governor is ${governor}`;
    const message = `${seen}, so the clock may move between measurements. Where you may: set scaling_governor to performance.`;
    findings.push({ reason: 'UNCONTROLLED', effect, message });
  }
  if (battery != null && battery.startStatus !== battery.endStatus) {
    const message = `The battery went from ${battery.startStatus} to ${battery.endStatus} during the run, and many devices clock by it. Leave the charger as it is and measure again.`;
    findings.push({ reason: 'UNCONTROLLED', effect, message });
  }
  return findings;
};

/** About the joules only: where they came from a battery's gauge, or where nothing else could have told them. */
const onCharger: Rule = ({ conditions: { battery }, energy }) => {
  if (battery == null || energy === undefined || energy.net.reason === 'NOT_ASKED') return [];
  const status = [battery.startStatus, battery.endStatus].find((one) => one !== DISCHARGING);
  if (status === undefined || (energy.net.value !== null && energy.boundary !== 'battery')) return [];
  const level = battery.percent === null ? '' : ` at ${battery.percent} %`;
  return [
    {
      reason: 'ON_CHARGER',
      effect: 'information',
      message: `The battery is ${status}${level} (needed: ${DISCHARGING}), so its gauge does not tell what the device draws. Unplug the charger and measure again, or put a smart plug before it (--plug). The latency stands.`,
    },
  ];
};

/** In the order of their weight. */
export const MACHINE_RULES: readonly Rule[] = [
  throttledByQuota,
  throttledByFirmware,
  throttledByHeat,
  underVoltage,
  overCurrent,
  clockMoved,
  foreignLoad,
];

/** What could not be set or used: said last. */
export const REMARKS: readonly Rule[] = [uncontrolled, onCharger];
