// What sets the speed of the processor: governor, clocks, throttling, quotas, power mode, heat, battery. Pure.
import { coreList, doubtful, fine, unknown, type DoctorFacts, type DoctorFinding } from './doctor-facts.ts';
import { percent } from './machine-findings.ts';

const CPUFREQ = '/sys/devices/system/cpu/cpufreq';
/** Governors that hold the clock where they are told to. */
const STEADY_GOVERNORS: readonly string[] = ['performance', 'userspace'];
/** FAI-PEP's constant: below it phones and laptops begin to save power. */
const BATTERY_LIMIT_PERCENT = 30;
/** So close to the trip point the measurement itself would get there. */
const HEADROOM_C = 10;
/** A clock in the hands of `performance` that stands below this share of its limit is held down by something. */
const HELD_SHARE = 0.9;

export function governor({ policies }: DoctorFacts): readonly DoctorFinding[] {
  const known = policies.filter((policy) => policy.governor !== null);
  if (known.length === 0) {
    return [
      unknown(
        'governor',
        'This machine does not show who sets its clock, as most virtual machines, containers and phones: it may change between two measurements. Measure what you compare in one go, in turns.',
      ),
    ];
  }
  const moving = known.filter((policy) => !STEADY_GOVERNORS.includes(policy.governor as string));
  if (moving.length === 0) return [fine('governor', `The clock is held where it is (governor ${known[0]?.governor ?? ''}).`)];
  const names = [...new Set(moving.map((policy) => policy.governor as string))].join(', ');
  const offered = moving.every((policy) => policy.governors.length === 0 || policy.governors.includes('performance'));
  const command = offered
    ? `echo performance | sudo tee ${CPUFREQ}/policy*/scaling_governor`
    : `for p in ${CPUFREQ}/policy*; do cat $p/scaling_max_freq | sudo tee $p/scaling_min_freq; done`;
  return [
    doubtful(
      'governor',
      `The clock of core ${coreList(moving.flatMap(({ cores }) => cores))} follows the load (governor ${names}): the same model is slower or faster depending on what ran before it.`,
      command,
    ),
  ];
}

export function clocks({ policies }: DoctorFacts): readonly DoctorFinding[] {
  const shown = policies.filter((policy) => policy.maxMHz !== null);
  if (shown.length === 0) return [];
  const MHz = (value: number | null) => (value === null ? '?' : value.toFixed(0));
  const ranges = shown
    .map((policy) => `core ${coreList(policy.cores)}: ${MHz(policy.minMHz)} to ${MHz(policy.maxMHz)} MHz, now ${MHz(policy.nowMHz)}`)
    .join('; ');
  const findings: DoctorFinding[] = [fine('clocks', `${ranges}.`)];
  for (const { name, cores, maxMHz, hardwareMaxMHz, nowMHz, governor: held } of shown) {
    const max = maxMHz as number;
    if (hardwareMaxMHz !== null && max < hardwareMaxMHz) {
      findings.push(
        doubtful(
          'clocks',
          `Somebody capped the clock of core ${coreList(cores)} at ${MHz(max)} of ${MHz(hardwareMaxMHz)} MHz: numbers hold for this cap only. If it is not meant, lift it.`,
          `cat ${CPUFREQ}/${name}/cpuinfo_max_freq | sudo tee ${CPUFREQ}/${name}/scaling_max_freq`,
        ),
      );
    }
    if (held === 'performance' && nowMHz !== null && nowMHz < HELD_SHARE * max) {
      findings.push(
        doubtful(
          'clocks',
          `Core ${coreList(cores)} should run at ${MHz(max)} MHz and runs at ${MHz(nowMHz)} (limit ${percent(HELD_SHARE)}): heat or a power limit holds it down. Let it cool, give it air or a stronger supply.`,
          null,
        ),
      );
    }
  }
  const kinds = new Map(shown.map((policy) => [policy.hardwareMaxMHz ?? policy.maxMHz, policy] as const));
  if (kinds.size > 1) {
    const fastest = [...kinds].sort(([a], [b]) => (b as number) - (a as number))[0]?.[1];
    const cores = shown
      .filter((policy) => (policy.hardwareMaxMHz ?? policy.maxMHz) === (fastest?.hardwareMaxMHz ?? fastest?.maxMHz))
      .flatMap((policy) => policy.cores);
    findings.push(
      doubtful(
        'clocks',
        `This processor has ${kinds.size} kinds of cores, and a run may land on any of them. Keep the measurement on one kind.`,
        `taskset -c ${coreList(cores)} ofa-agent measure MODEL.onnx`,
      ),
    );
  }
  return findings;
}

const PI_BITS = [
  'the supply voltage is too low',
  'the clock is capped',
  'it is throttled',
  'it is above its soft temperature limit',
] as const;

export function throttling(facts: DoctorFacts): readonly DoctorFinding[] {
  const { throttledBits: bits, supplyAlarms, thermalThrottles, cooling } = facts;
  const findings: DoctorFinding[] = [];
  if (bits !== null) {
    const now = PI_BITS.filter((_, bit) => (bits >> bit) & 1);
    const before = PI_BITS.filter((_, bit) => (bits >> (bit + 16)) & 1 && !((bits >> bit) & 1));
    const next = 'Use the official power supply and a short cable, and a fan; the marks of the past go with a restart.';
    if (now.length > 0) findings.push(doubtful('throttling', `The board is slowed right now: ${now.join('; ')}. ${next}`, 'sudo reboot'));
    else if (before.length > 0)
      findings.push(
        doubtful('throttling', `Since it was started this happened to the board: ${before.join('; ')}. ${next}`, 'sudo reboot'),
      );
    else findings.push(fine('throttling', 'The board has not slowed since it was started.'));
  }
  const alarms = supplyAlarms?.filter(({ events }) => events > 0) ?? [];
  if (alarms.length > 0) {
    const list = alarms.map(({ input, kind, events }) => `${kind} ${events} times (${input})`).join(', ');
    findings.push(
      doubtful(
        'throttling',
        `The module asked more of its supply than it gives, and is slowed for a moment each time: ${list} since it was started. Choose a lower power mode or give it a stronger supply.`,
        'sudo nvpmodel -p --verbose',
      ),
    );
  } else if (supplyAlarms !== null) findings.push(fine('throttling', 'The module was not slowed for its supply since it was started.'));
  if (cooling.length > 0) {
    findings.push(
      doubtful('throttling', `The kernel slows the processor right now to cool it (${cooling.join(', ')}). Wait, or give it a fan.`, null),
    );
  }
  if (thermalThrottles !== null && thermalThrottles > 0) {
    findings.push(
      doubtful(
        'throttling',
        `The processor slowed ${thermalThrottles} times for its heat since it was started. Give it air; watch whether the count grows.`,
        'grep . /sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count',
      ),
    );
  } else if (thermalThrottles === 0) findings.push(fine('throttling', 'The processor has not slowed for its heat since it was started.'));
  if (findings.length === 0) findings.push(unknown('throttling', 'This machine does not tell whether it slows itself.'));
  return findings;
}

export function quota({ quota: limit, quotaStops, threads }: DoctorFacts): readonly DoctorFinding[] {
  if (limit === null) return [];
  const stopped = quotaStops === null || quotaStops === 0 ? '' : ` It stopped programs here ${quotaStops} times so far.`;
  const tooFew = limit.cores < threads;
  const message = `A CPU quota allows ${limit.cores.toFixed(2)} cores' worth of time (${limit.file}).${stopped}`;
  if (!tooFew && stopped === '') return [fine('quota', `${message} That is enough for ${threads} thread(s) if nothing else runs inside.`)];
  return [
    doubtful(
      'quota',
      `${message} A run that uses it up is stopped half-way, and its time means nothing. Start the container without a limit, or lift it.`,
      limit.file.endsWith('cpu.max') ? `echo max | sudo tee ${limit.file}` : `echo -1 | sudo tee ${limit.file}`,
    ),
  ];
}

export function powerMode({ powerMode: mode, platformProfile: profile }: DoctorFacts): readonly DoctorFinding[] {
  const findings: DoctorFinding[] = [];
  if (mode !== null) {
    findings.push(
      /^MAXN/i.test(mode)
        ? fine('power mode', `The module is in its largest power mode (${mode}).`)
        : doubtful(
            'power mode',
            `The module is in power mode ${mode}: clocks and cores are limited, and numbers hold for this mode only. If another is meant, choose it (the list shows their numbers).`,
            'sudo nvpmodel -p --verbose && sudo nvpmodel -m NUMBER',
          ),
    );
  }
  if (profile !== null) {
    const best = profile.choices.includes('performance');
    findings.push(
      profile.now === 'performance' || !best
        ? fine('power mode', `The machine's power profile is ${profile.now}.`)
        : doubtful(
            'power mode',
            `The machine's power profile is ${profile.now}: its firmware may lower the clock by itself.`,
            'echo performance | sudo tee /sys/firmware/acpi/platform_profile',
          ),
    );
  }
  return findings;
}

export function battery({ battery: state }: DoctorFacts): readonly DoctorFinding[] {
  if (state === null) return [];
  const { status, percent: level } = state;
  const charge = level === null ? '' : ` (${level} %)`;
  if (level !== null && level < BATTERY_LIMIT_PERCENT && status === 'Discharging') {
    return [
      doubtful(
        'battery',
        `The battery is at ${level} % (limit ${BATTERY_LIMIT_PERCENT} %): near empty, machines save power. Charge it first.`,
        null,
      ),
    ];
  }
  if (status === 'Discharging') {
    return [
      doubtful(
        'battery',
        `The battery feeds the machine${charge}: many lower their clock then. For latency plug the charger in; for joules by the battery's own gauge this is right.`,
        null,
      ),
    ];
  }
  if (status === 'Charging') {
    return [
      doubtful(
        'battery',
        `The battery is being charged${charge}, which warms the machine. Wait until it is full; its gauge cannot tell joules meanwhile.`,
        null,
      ),
    ];
  }
  return [fine('battery', `The battery rests: ${status}${charge}. Its gauge can tell joules only without the charger.`)];
}

export function temperature({ temperatureC: now, maxTemperatureC, passiveTripC: trip }: DoctorFacts): readonly DoctorFinding[] {
  if (now === null) return [unknown('temperature', 'This machine shows no temperature.')];
  const limit = Math.min(maxTemperatureC, trip === null ? maxTemperatureC : trip - HEADROOM_C);
  const known = trip === null ? '' : `; it begins to slow at ${trip.toFixed(0)} °C`;
  if (now <= limit) return [fine('temperature', `${now.toFixed(0)} °C (limit ${limit.toFixed(0)} °C${known}).`)];
  return [
    doubtful(
      'temperature',
      `${now.toFixed(0)} °C is too hot to begin with (limit ${limit.toFixed(0)} °C${known}): it would slow down half-way. Let it cool, or give it a fan.`,
      null,
    ),
  ];
}
