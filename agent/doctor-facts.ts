// What the doctor knows of a machine and what it says about it, and how both are put into words.
import type { RunConditions } from '@ofa-fleet/shared/measurement.ts';

/** A clock that several cores share; MHz, null where the kernel does not say. */
export interface ClockPolicy {
  /** E.g. `policy0`. */
  readonly name: string;
  readonly cores: readonly number[];
  readonly governor: string | null;
  readonly governors: readonly string[];
  /** Limits as set, and what the hardware could do. */
  readonly minMHz: number | null;
  readonly maxMHz: number | null;
  readonly hardwareMaxMHz: number | null;
  readonly nowMHz: number | null;
}

/** CPU time of all cores over a moment of watching, as shares of it. */
export interface Neighbours {
  /** All but this program, time stolen by a hypervisor left out. */
  readonly foreignShare: number;
  readonly stealShare: number;
  /** Shares of one core, largest first. */
  readonly busiest: readonly { readonly pid: number; readonly name: string; readonly coreShare: number }[];
}

/** What was read; null (or empty) where this machine does not tell. */
export interface DoctorFacts {
  readonly policies: readonly ClockPolicy[];
  /** Raspberry Pi: bits 0-3 now, 16-19 since boot. */
  readonly throttledBits: number | null;
  /** Jetson: events since boot by input; null: no Jetson. */
  readonly supplyAlarms: Readonly<NonNullable<RunConditions['supplyAlarms']>> | null;
  /** Times since boot that x86 cores slowed for their heat. */
  readonly thermalThrottles: number | null;
  /** Devices by which the kernel cools the processor that are at work now. */
  readonly cooling: readonly string[];
  /** Cores' worth of time that a cgroup allows, and how often it stopped this one so far. */
  readonly quota: { readonly cores: number; readonly file: string } | null;
  readonly quotaStops: number | null;
  /** Jetson's power mode by name. */
  readonly powerMode: string | null;
  readonly platformProfile: { readonly now: string; readonly choices: readonly string[] } | null;
  /** Cores that the runtime's threads keep busy between runs; null: it has none, or was not asked. */
  readonly idleCores: number | null;
  readonly threads: number;
  readonly onlineCores: number | null;
  /** Cores that this process may use. */
  readonly allowedCores: readonly number[];
  /** Cores that are two threads of one. */
  readonly siblings: readonly (readonly number[])[];
  readonly neighbours: Neighbours | null;
  /** The one that feeds the machine, its status as the kernel words it. */
  readonly battery: { readonly status: string; readonly percent: number | null } | null;
  readonly temperatureC: number | null;
  /** Above it no measurement is begun. */
  readonly maxTemperatureC: number;
  /** Lowest passive trip point of the zones: there the kernel begins to slow. */
  readonly passiveTripC: number | null;
  readonly memory: { readonly swapTotalBytes: number; readonly swapUsedBytes: number; readonly availableBytes: number } | null;
  readonly clockSource: { readonly now: string; readonly available: readonly string[] } | null;
}

export interface DoctorFinding {
  readonly topic: string;
  /** `unknown`: this machine does not tell, which is a doubt of its own. */
  readonly state: 'fine' | 'doubtful' | 'unknown';
  readonly message: string;
  /** What to type; null where nothing typed here helps or is needed. */
  readonly command: string | null;
}

export const fine = (topic: string, message: string): DoctorFinding => ({ topic, state: 'fine', message, command: null });
export const unknown = (topic: string, message: string): DoctorFinding => ({ topic, state: 'unknown', message, command: null });
export const doubtful = (topic: string, message: string, command: string | null): DoctorFinding => ({
  topic,
  state: 'doubtful',
  message,
  command,
});

/** `0-3, 6` */
export function coreList(cores: readonly number[]): string {
  const sorted = [...cores].sort((a, b) => a - b);
  const runs: [number, number][] = [];
  for (const core of sorted) {
    const last = runs.at(-1);
    if (last !== undefined && core === last[1] + 1) last[1] = core;
    else runs.push([core, core]);
  }
  return runs.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(',');
}
