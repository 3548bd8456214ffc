// Whether a device is fit to measure just now. One that is too hot, still warming or cooling, short of charge or busy says "not ready, again
// in so long" instead of giving a number that would have to be thrown away; that costs no attempt. Pure but for the state it is handed.
import { failed, type Failure, type Reason } from '@ofa-fleet/shared/outcome.ts';
import type { Clock } from './ports.ts';

/** What can be read in a moment, without disturbing anything. */
export interface DeviceState {
  /** Of the hottest zone. */
  readonly temperatureC: number | null;
  /** What slows the device at this moment; null: nothing that it tells of. */
  readonly slowed: { readonly reason: Reason; readonly message: string } | null;
  /** Status as the kernel words it. */
  readonly battery: { readonly status: string; readonly percent: number | null } | null;
  /** CPU time since boot: of all cores, busy, and what this agent took with the processes that it started. */
  readonly cpu: { readonly totalMs: number; readonly busyMs: number; readonly ownMs: number } | null;
}

interface NotReady extends Failure {
  readonly retryAfterMs: number;
}

export interface GateHost {
  readonly clock: Clock;
  readonly maxTemperatureC: number;
  /** False where the device is shared by design, with whatever started this agent: load of others is then left to the verdict. */
  readonly waitsForOthers: boolean;
  readonly read: () => DeviceState;
  /** °C of the hottest zone alone, which costs less. */
  readonly readTemperatureC: () => number | null;
}

export interface Gates {
  /** Before work is asked for, with the host's turn in hand. Looks at the load of others for half a second where it is not known. */
  check(signal: AbortSignal): Promise<NotReady | null>;
  /** Before a granted job is accepted: only what can be said at once. */
  checkAgain(): NotReady | null;
  /** Share of the cores that others took while this device just measured: then there is no need to look. */
  sawForeignLoad(share: number | null): void;
  /** °C of the hottest zone, for heartbeats; remembered, so that a device that was idle need not wait to know that it is steady. */
  temperatureC(): number | null;
}

/** Flat: no more than this, in this time, up or down. */
const STEADY_C = 1;
const STEADY_MS = 10_000;
/** Older readings say nothing of now. */
const REMEMBERED_MS = 120_000;
/** FAI-PEP's constant (github.com/facebook/FAI-PEP). */
const LEAST_BATTERY_PERCENT = 30;
/** Whose level does not matter: it rests on the mains. */
const RESTING = new Set(['Full', 'Not charging']);
/** Above it the verdict would be invalid. */
const FOREIGN_LIMIT = 0.2;
const LOOK_MS = 500;
const LOAD_KNOWN_MS = 60_000;
const RETRY_MS = { hot: 15_000, slowed: 15_000, battery: 300_000, busy: 5000 } as const;
/** A device that is never steady or never alone works all the same after so long; what that does to a number is said by its verdict. */
const PATIENCE_MS = { steady: 180_000, busy: 60_000 } as const;

function notReady(reason: Reason, message: string, retryAfterMs: number): NotReady {
  return { ...failed(reason, message), retryAfterMs };
}

/** A time in which something stood in the way at every look. */
interface Spell {
  /** True once it has lasted longer than one waits for it. */
  goesOn(): boolean;
  end(): void;
}

function createSpell(clock: Clock, patienceMs: number): Spell {
  let spell: { readonly fromMs: number; readonly lookedMs: number } | null = null;
  return {
    goesOn() {
      const now = clock.monotonicMs();
      // nobody looked for long: what was then is over
      const fromMs = spell === null || now - spell.lookedMs > REMEMBERED_MS ? now : spell.fromMs;
      spell = { fromMs, lookedMs: now };
      return now - fromMs >= patienceMs;
    },
    end: () => (spell = null),
  };
}

export function createGates({ clock, maxTemperatureC, waitsForOthers, read, readTemperatureC }: GateHost): Gates {
  let readings: readonly { readonly atMs: number; readonly celsius: number }[] = [];
  let load: { readonly atMs: number; readonly share: number } | null = null;
  const unsteady = createSpell(clock, PATIENCE_MS.steady);
  const busy = createSpell(clock, PATIENCE_MS.busy);

  function remembered(): typeof readings {
    const now = clock.monotonicMs();
    return readings.filter(({ atMs }) => now - atMs <= REMEMBERED_MS);
  }

  function remember(celsius: number | null): void {
    if (celsius !== null) readings = [...remembered(), { atMs: clock.monotonicMs(), celsius }];
  }

  function atOnce({ temperatureC, slowed, battery }: DeviceState): NotReady | null {
    if (temperatureC !== null && temperatureC > maxTemperatureC) {
      const message = `${temperatureC.toFixed(0)} °C, the limit is ${maxTemperatureC} °C: let the device cool, or set another limit with --max-temperature`;
      return notReady('TOO_HOT', message, RETRY_MS.hot);
    }
    if (slowed !== null) return notReady(slowed.reason, slowed.message, RETRY_MS.slowed);
    if (battery !== null && battery.percent !== null && battery.percent < LEAST_BATTERY_PERCENT && !RESTING.has(battery.status)) {
      const message = `the battery is at ${battery.percent} % (${battery.status}), the least is ${LEAST_BATTERY_PERCENT} %: charge it; work goes on by itself then`;
      return notReady('LOW_BATTERY', message, RETRY_MS.battery);
    }
    return null;
  }

  function steady(celsius: number | null): NotReady | null {
    if (celsius === null) return null;
    const now = clock.monotonicMs();
    const before = remembered().findLast(({ atMs }) => now - atMs >= STEADY_MS);
    const oldest = remembered()[0]?.atMs ?? now;
    const moved = before === undefined ? null : (Math.abs(celsius - before.celsius) * STEADY_MS) / (now - before.atMs);
    if (moved !== null && moved <= STEADY_C) {
      unsteady.end();
      return null;
    }
    if (unsteady.goesOn()) return null;
    if (before === undefined || moved === null) {
      const message = `${celsius.toFixed(0)} °C, and not known yet whether it is steady: that takes ${STEADY_MS / 1000} s without work`;
      return notReady('TOO_HOT', message, Math.max(1000, STEADY_MS - (now - oldest)));
    }
    const message = `the temperature moved by ${moved.toFixed(1)} °C in ${STEADY_MS / 1000} s (now ${celsius.toFixed(0)} °C; limit ${STEADY_C} °C): the device is still ${celsius > before.celsius ? 'warming up' : 'cooling down'}`;
    return notReady('TOO_HOT', message, STEADY_MS);
  }

  async function alone(cpu: DeviceState['cpu'], signal: AbortSignal): Promise<NotReady | null> {
    if (!waitsForOthers || cpu === null) return null;
    const known = load !== null && clock.monotonicMs() - load.atMs <= LOAD_KNOWN_MS && load.share <= FOREIGN_LIMIT;
    if (!known) {
      await clock.sleep(LOOK_MS, signal);
      const later = read().cpu;
      const total = later === null ? 0 : later.totalMs - cpu.totalMs;
      const foreign = later === null ? 0 : later.busyMs - cpu.busyMs - (later.ownMs - cpu.ownMs);
      load = total <= 0 ? null : { atMs: clock.monotonicMs(), share: Math.max(0, foreign / total) };
    }
    if (load === null || load.share <= FOREIGN_LIMIT) {
      busy.end();
      return null;
    }
    if (busy.goesOn()) return null;
    const message = `other processes take ${(100 * load.share).toFixed(0)} % of the CPU time of all cores (limit ${100 * FOREIGN_LIMIT} %): stop them (top shows which); work goes on by itself then`;
    return notReady('BUSY', message, RETRY_MS.busy);
  }

  return {
    async check(signal) {
      const state = read();
      const obstacle = atOnce(state) ?? steady(state.temperatureC);
      remember(state.temperatureC);
      return obstacle ?? (await alone(state.cpu, signal));
    },
    checkAgain: () => atOnce(read()),
    sawForeignLoad(share) {
      load = share === null ? null : { atMs: clock.monotonicMs(), share };
    },
    temperatureC() {
      const celsius = readTemperatureC();
      remember(celsius);
      return celsius;
    },
  };
}
