// A trial as the choice of a subnet sees it: one subnet, its error, its cost by counting, and what each device class measured.
import type { Interval } from '@ofa-fleet/shared/measurement.ts';
import type { Subnet } from '../subnet.ts';

export interface LatencyEstimate {
  /** Median of one inference in ms. */
  readonly value: number;
  readonly ci: Interval | null;
}

export interface Trial {
  readonly subnetId: string;
  readonly subnet: Subnet;
  /** Multiply-accumulate operations of one inference, counted on the extracted net. */
  readonly macs: number;
  /** Share of images classified wrongly, 0..1, on the split that the search sees. */
  readonly error: number;
  /** By device class; a class that is absent has no usable measurement of this subnet. */
  readonly latencyMs: Readonly<Record<string, LatencyEstimate>>;
}
