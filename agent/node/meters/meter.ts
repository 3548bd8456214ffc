// What every sensor on Node offers: what it is, and one reading. How it is found and why it may not be there is told beside it.
import type { Reason } from '@ofa-fleet/shared/outcome.ts';
import type { MeterInfo } from '../../ports.ts';

/** One file, or several that are added (counters of one range): number times `scale` is joules or watts. Plain data, for a worker thread. */
export interface Meter {
  readonly info: MeterInfo;
  readonly paths: readonly string[];
  readonly scale: number;
}

/** A sensor that was found and is not used. */
export interface Unusable {
  readonly sensor: string;
  readonly reason: Reason;
  /** Why, and what to do about it. */
  readonly message: string;
}

export interface Discovery {
  /** Most direct first; no two of them measure the same thing in the same way. */
  readonly meters: readonly Meter[];
  readonly unusable: readonly Unusable[];
}
