// ofa-mbv3-synth v1: a closed-form stand-in for a trained supernet and three devices over the published Once-For-All space, so that searches
// can be compared on thousands of evaluations with a known answer. A port of the problem's definition; its 200 vectors hold it to 1e-9.
import { PRESETS, type Space } from '../../../controller/space.ts';
import type { MbConvBlock, Subnet } from '../../../controller/subnet.ts';

export const SPACE: Space = { ...(PRESETS['ofa-mbv3-w1.0'] as Space), resolutions: [160, 176, 192, 208, 224] };

export const DEVICES = ['pi', 'gpu', 'npu'] as const;
export type Device = (typeof DEVICES)[number];

export interface Truth {
  readonly errorPercent: number;
  readonly macs: number;
  readonly parameters: number;
  readonly latencyMs: Readonly<Record<Device, number>>;
  readonly energyMillijoules: Readonly<Record<Device, number>>;
}

const STAGES = [
  { channels: 24, stride: 2, se: 0, weight: 0.75, saturation: 2.3 },
  { channels: 48, stride: 2, se: 1, weight: 0.95, saturation: 2.5 },
  { channels: 88, stride: 2, se: 0, weight: 1.15, saturation: 2.4 },
  { channels: 120, stride: 1, se: 1, weight: 1.9, saturation: 2.6 },
  { channels: 176, stride: 2, se: 1, weight: 2.05, saturation: 2.2 },
] as const;
const STEM = 16;
const FINAL = 1056;
const LAST = 1408;
/** What a block is worth by its place in the stage. */
const PLACE_WEIGHTS = [1.0, 0.85, 0.7, 0.45];
const KERNEL_QUALITY = new Map([[3, 0], [5, 0.22], [7, 0.3]]); // prettier-ignore
const EXPAND_QUALITY = new Map([[3, 0], [4, 0.28], [6, 0.52]]); // prettier-ignore

const logistic = (x: number) => 1 / (1 + Math.exp(-x));

/** The noise-free truth of a subnet of `SPACE`. */
export function evaluate(subnet: Subnet): Truth {
  const r = subnet.resolution;
  let side = Math.ceil(r / 2);
  let channelsIn: number = STEM;
  let macs = (27 * STEM + 9 * STEM + STEM * STEM) * side * side;
  let parameters = 27 * STEM + 9 * STEM + STEM * STEM;
  let pi = macs / 3.0e7 + 2.0;
  let gpu = 0.3;
  let npu = macs / 7.0e7 + 0.15;
  let peakActivation = 0;
  let accuracy = 63.95 - 0.029 * (224 - r);
  const use: number[] = [];

  for (const [s, stage] of STAGES.entries()) {
    let capacity = 0;
    for (const [j, { kernel, expand }] of ((subnet.stages[s] ?? []) as readonly MbConvBlock[]).entries()) {
      const sideOut = Math.ceil(side / (j === 0 ? stage.stride : 1));
      const mid = channelsIn * expand;
      const out = stage.channels;
      const pointwise = channelsIn * mid * side * side + mid * out * sideOut * sideOut;
      const depthwise = mid * kernel * kernel * sideOut * sideOut;
      const squeeze = 2 * mid * Math.floor(mid / 4) * stage.se;
      const weights = channelsIn * mid + mid * kernel * kernel + mid * out + squeeze;
      const activation = mid * side * side + mid * sideOut * sideOut + out * sideOut * sideOut;
      macs += pointwise + depthwise + squeeze;
      parameters += weights;
      peakActivation = Math.max(peakActivation, activation);

      // memory-bound: activations that spill out of the cache cost more
      const spill = 1 + 0.55 * logistic((activation - 2.6e5) / 0.9e5);
      pi += pointwise / 5.5e7 + depthwise / 1.4e7 + (activation * spill + 1.8 * weights) / 0.8e6 + 0.15 + 0.3 * stage.se;
      // launch overhead hides compute
      const launch = 0.062 + 0.04 * stage.se + (kernel === 7 ? 0.01 : 0);
      const compute = pointwise / 5.4e8 + (depthwise * (kernel === 3 ? 1 : 1.25)) / 1.6e8;
      gpu += Math.sqrt(launch * launch + compute * compute) + 0.35 * compute;
      // channels are processed in whole tiles
      const tiles = (Math.ceil(mid / 64) * 64) / mid;
      npu +=
        (tiles * (channelsIn * mid * side * side + mid * Math.ceil(out / 32) * 32 * sideOut * sideOut)) / 2.3e8 +
        depthwise / (kernel < 7 ? 8.0e7 : 5.2e7) +
        0.012;

      const k = KERNEL_QUALITY.get(kernel) as number;
      const e = EXPAND_QUALITY.get(expand) as number;
      let worth = 1 + k + e - 0.18 * k * e;
      // large kernels pay at high resolution
      if (kernel === 7) worth += 0.0016 * (r - 192) * (s === 1 || s === 3 ? 1 : -0.5);
      capacity += (PLACE_WEIGHTS[j] as number) * worth;
      side = sideOut;
      channelsIn = out;
    }
    const share = 1 - Math.exp(-capacity / stage.saturation);
    use.push(share);
    accuracy += 1.72 * stage.weight * share;
  }

  const [u0, u1, u2, u3, u4] = use as [number, number, number, number, number];
  accuracy += 2.1 * u3 * u4 + u1 * u2 + 0.7 * u0 * u2 - 9.0 * (u2 - u3) ** 2 - 4.0 * Math.max(0, u0 - u4) ** 2;
  accuracy += 0.1 * normal(canonicalWords(subnet));

  const head = channelsIn * FINAL * side * side + FINAL * LAST + LAST * 1000;
  macs += head;
  parameters += channelsIn * FINAL + FINAL * LAST + LAST * 1000;
  pi = (pi + head / 4.2e7 + 3.6) * (1 + 0.08 * logistic((peakActivation - 0.9e6) / 2.0e5));
  gpu += 0.25 + head / 1.5e9;
  npu += 0.35 + head / 1.6e8;
  const millions = { macs: macs / 1e6, parameters: parameters / 1e6 };
  return {
    errorPercent: 100 - accuracy,
    macs,
    parameters,
    latencyMs: { pi, gpu, npu },
    energyMillijoules: {
      pi: 1.5 * pi + millions.parameters * 14.0 + 0.02 * millions.macs,
      gpu: 25 * gpu + millions.parameters * 3.0 + 0.2 * millions.macs,
      npu: 1.1 * npu + millions.parameters * 1.6 + 0.012 * millions.macs,
    },
  };
}

/** One reading of a device's latency, its `t`-th: lognormal noise and an AR(1) drift of 128 terms, both functions of their arguments alone. */
export function observeLatencyMs(
  subnet: Subnet,
  device: Device,
  reading: { readonly seed: number; readonly t: number; readonly sd: number; readonly driftSd: number; readonly rho: number },
): number {
  const { seed, t, sd, driftSd, rho } = reading;
  const index = DEVICES.indexOf(device);
  let drift = 0;
  if (driftSd > 0) {
    for (let i = 0; i < 128; i++) drift += rho ** i * normal([seed, index, 7, t - i]);
    drift *= Math.sqrt(1 - rho * rho);
  }
  const noise = normal([...canonicalWords(subnet), seed, index, 5, t]);
  return evaluate(subnet).latencyMs[device] * Math.exp(sd * noise + driftSd * drift);
}

/** The problem's 46 digits (5 depths, 20 kernels, 20 expand ratios, resolution; each an index into its choices), dead genes as -1. */
function canonicalWords(subnet: Subnet): number[] {
  const genes = (choices: readonly number[], key: 'kernel' | 'expand') =>
    subnet.stages.flatMap((blocks) => [0, 1, 2, 3].map((j) => (blocks[j] === undefined ? -1 : choices.indexOf(blocks[j][key] as number))));
  return [
    ...subnet.stages.map((blocks) => SPACE.depths.indexOf(blocks.length)),
    ...genes(SPACE.kernels, 'kernel'),
    ...genes(SPACE.expands, 'expand'),
    SPACE.resolutions.indexOf(subnet.resolution),
  ];
}

/** A subnet from the problem's 46 digits; dead digits are dropped. */
export function subnetFromDigits(text: string): Subnet {
  const digits = Array.from(text, Number);
  const choose = (choices: readonly number[], at: number) => choices[digits[at] as number] as number;
  const stages = STAGES.map((_, s) =>
    Array.from({ length: choose(SPACE.depths, s) }, (_, j) => ({
      kernel: choose(SPACE.kernels, 5 + 4 * s + j),
      expand: choose(SPACE.expands, 25 + 4 * s + j),
    })),
  );
  return { resolution: choose(SPACE.resolutions, 45), stages };
}

/** FNV-1a over 32-bit words, then the finaliser of MurmurHash3. */
function hash32(words: readonly number[]): number {
  let h = 2166136261;
  for (const word of words) h = Math.imul(h ^ word, 16777619);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** A deterministic standard normal of the words: sum of four uniforms, standardised. */
function normal(words: readonly number[]): number {
  const a = hash32([...words, 1]);
  const b = hash32([...words, 2]);
  return (((a >>> 16) + (a & 65535) + (b >>> 16) + (b & 65535) + 2 - 131072) / 65536) * Math.sqrt(3);
}
