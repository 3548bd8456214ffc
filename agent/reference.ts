// The reference workload: one small net that never changes, run before, between and after the timed runs. What it takes tells how fast the
// device is just then, so that a slow minute is not taken for a slow model (interleaving: Kalibera & Jones, ISMM'13). Pure but for the block.
import type { Interval, ReferenceBlock, ReferenceReadings } from '@ofa-fleet/shared/measurement.ts';
import { estimateMedian, relativeHalfWidth, type MedianEstimate } from '@ofa-fleet/shared/statistics.ts';
import { encodeOnnx } from './onnx-bytes.ts';
import type { Clock, RuntimeIdentity, Session } from './ports.ts';

/** Changes with the model below. */
const REFERENCE_ID = 'convolutions-2';

/** Readings of different workloads are never compared. */
export function workloadName({ name, version }: RuntimeIdentity, threads: number): string {
  return `${REFERENCE_ID} on ${name} ${version}, ${threads} thread(s)`;
}

/** Long enough for an interval, short beside what is measured. */
const BLOCK: BlockLength = { refillRuns: 5, runs: 20, ms: 25, longestMs: 500 };
const CHANNELS = 32;
const SIDE = 28;
const LAYERS = 9;

/**
 * Convolutions 3x3, 1x1 and depthwise in turn, as in the nets that are measured, about 25 million multiply-accumulates; then the mean of each
 * channel: a large output would be allocated anew for each run, and its page faults come and go with the state of the heap (they made such a
 * reference take 0.083 or 0.122 ms, by turns).
 */
export function encodeReferenceModel(): Uint8Array {
  const weights = (shape: readonly number[]) => {
    const size = shape.reduce((product, dim) => product * dim, 1);
    return { shape, data: Float32Array.from({ length: size }, (_, i) => (((i * 7919) % 101) - 50) / 50 / Math.sqrt(size / CHANNELS)) };
  };
  const kinds = [
    { shape: [CHANNELS, CHANNELS, 3, 3], pads: [1, 1, 1, 1], group: 1 },
    { shape: [CHANNELS, CHANNELS, 1, 1], pads: [0, 0, 0, 0], group: 1 },
    { shape: [CHANNELS, 1, 3, 3], pads: [1, 1, 1, 1], group: CHANNELS },
  ] as const;
  const layers = Array.from({ length: LAYERS }, (_, i) => kinds[i % kinds.length] as (typeof kinds)[number]);
  return encodeOnnx({
    input: { name: 'x', shape: [1, CHANNELS, SIDE, SIDE] },
    output: { name: 'mean', shape: [1, CHANNELS, 1, 1] },
    nodes: [
      ...layers.flatMap(({ pads, group }, i) => [
        { op: 'Conv', inputs: [i === 0 ? 'x' : `y${i}`, `w${i}`], outputs: [`c${i}`], attributes: { pads, group } },
        { op: 'Relu', inputs: [`c${i}`], outputs: [`y${i + 1}`] },
      ]),
      { op: 'GlobalAveragePool', inputs: [`y${LAYERS}`], outputs: ['mean'] },
    ],
    initializers: layers.map(({ shape }, i) => ({ name: `w${i}`, ...weights(shape) })),
  });
}

/** How long a block is; its first runs refill the caches that another model has emptied, and are not counted. */
export interface BlockLength {
  readonly refillRuns: number;
  /** Both at least, unless `longestMs` have passed. */
  readonly runs: number;
  readonly ms: number;
  readonly longestMs: number;
}

/** Times of a block's runs back to back, ms. */
export async function timeBlock(session: Session, clock: Clock, { refillRuns, runs, ms, longestMs }: BlockLength): Promise<number[]> {
  for (let n = 0; n < refillRuns; n++) await session.run();
  const samples: number[] = [];
  const began = clock.monotonicMs();
  for (let now = began; now - began < longestMs && (samples.length < runs || now - began < ms);) {
    await session.run();
    const ended = clock.monotonicMs();
    samples.push(ended - now);
    now = ended;
  }
  return samples;
}

/** Runs the loaded reference for at least 20 runs and 25 ms. `afterRuns`: timed runs of the model that came before. */
export async function runReference(session: Session, clock: Clock, level: number, afterRuns: number): Promise<ReferenceBlock> {
  const estimate = estimateMedian(await timeBlock(session, clock, BLOCK), level);
  const half = relativeHalfWidth(estimate);
  return { afterRuns, medianMs: estimate.value, relativeHalfWidth: Number.isFinite(half) ? half : null };
}

/** Corrected for no more than this, since a device that is so much slower is another device; beyond it the number is doubtful anyway. */
export const DRIFT_LIMIT = 0.1;

export interface Drift {
  /** Largest |R(t)/R0 - 1|; negative where the device was faster. */
  readonly moved: number;
  /** The reference moved by more than what it cannot tell itself. */
  readonly isSeen: boolean;
}

/** Against the device's baseline where one is known, else against the first block. */
export function driftOf({ blocks, baseline }: Pick<ReferenceReadings, 'blocks' | 'baseline'>): Drift | null {
  const first = blocks[0];
  if (first === undefined) return null;
  const from = baseline ?? { medianMs: first.medianMs, relativeHalfWidth: first.relativeHalfWidth ?? 0 };
  const compared = baseline === null ? blocks.slice(1) : blocks;
  let worst: Drift = { moved: 0, isSeen: false };
  for (const { medianMs, relativeHalfWidth: half } of compared) {
    const moved = medianMs / from.medianMs - 1;
    const isSeen = half !== null && Math.abs(moved) > Math.hypot(half, from.relativeHalfWidth);
    if (Math.abs(moved) > Math.abs(worst.moved)) worst = { moved, isSeen: isSeen || worst.isSeen };
    else if (isSeen) worst = { ...worst, isSeen };
  }
  return worst;
}

/**
 * The runs as they would have been at the baseline's speed: raw · R0 / R(t), R linear in its logarithm between neighbouring blocks; the
 * interval holds what the blocks and the baseline cannot tell. null without a baseline, or where a block was too short for an interval.
 */
export function corrected(samples: readonly number[], { blocks, baseline }: ReferenceReadings, level: number): MedianEstimate | null {
  const [first] = blocks;
  const last = blocks[blocks.length - 1];
  if (baseline === null || first === undefined || last === undefined || blocks.some((block) => block.relativeHalfWidth === null))
    return null;
  let next = 1;
  const speeds = samples.map((_, i) => {
    while (next < blocks.length - 1 && (blocks[next] as ReferenceBlock).afterRuns <= i) next++;
    const [a, b] = [blocks[Math.max(0, next - 1)] ?? first, blocks[next] ?? last];
    const share = b.afterRuns === a.afterRuns ? 0 : (i + 0.5 - a.afterRuns) / (b.afterRuns - a.afterRuns);
    return Math.exp(Math.log(a.medianMs) * (1 - share) + Math.log(b.medianMs) * share);
  });
  const estimate = estimateMedian(samples.map((value, i) => (value * baseline.medianMs) / (speeds[i] as number)), level); // prettier-ignore
  if (estimate.ci === null) return estimate;
  const blockHalf = Math.sqrt(blocks.reduce((sum, block) => sum + (block.relativeHalfWidth ?? 0) ** 2, 0) / blocks.length);
  const unknown = Math.hypot(blockHalf, baseline.relativeHalfWidth) * estimate.value;
  const ci: Interval = {
    ...estimate.ci,
    lo: estimate.value - Math.hypot(estimate.value - estimate.ci.lo, unknown),
    hi: estimate.value + Math.hypot(estimate.ci.hi - estimate.value, unknown),
    method: `${estimate.ci.method}; with the reference's own`,
  };
  return { ...estimate, ci };
}
