// The search spaces that tests use: small, yet with everything that a space can have, and any of them in each of the eight architectures.
import { ARCHITECTURES, withArchitecture } from '../../controller/architecture.ts';
import type { Space } from '../../controller/space.ts';
import { value } from './outcome.ts';

/** What the small spaces share: grey images and OFAv2's best form, EE_D. */
const GREY = { inputChannels: 1, mean: [0.3], std: [0.35], exits: 'early', denseSkips: true } as const satisfies Partial<Space>;

/** Two stages, for campaigns around a model: evaluated in milliseconds. */
export const TINY_SPACE: Space = {
  ...GREY,
  name: 'tiny',
  mean: [0.3],
  std: [0.3],
  classes: 4,
  resolutions: [12, 16],
  stem: { channels: 8, stride: 1 },
  stages: [
    { channels: 8, stride: 2, activation: 'relu', squeezeExcite: false },
    { channels: 16, stride: 2, activation: 'h_swish', squeezeExcite: true },
  ],
  kernels: [3, 5],
  expands: [2, 3],
  depths: [1, 2],
  head: { expand: 2, mix: 2 },
};

/** Two stages with every kernel, for the supernet and its gradients: odd map sides, and squeeze-and-excitation in the first stage. */
export const TINY: Space = {
  ...GREY,
  name: 'tiny',
  mean: [0.3],
  std: [0.4],
  classes: 3,
  resolutions: [9, 12],
  stem: { channels: 8, stride: 1 },
  stages: [
    { channels: 8, stride: 2, activation: 'relu', squeezeExcite: true },
    { channels: 16, stride: 2, activation: 'h_swish', squeezeExcite: false },
  ],
  kernels: [3, 5, 7],
  expands: [2, 3, 4],
  depths: [1, 2, 3],
  head: { expand: 2, mix: 2 },
};

/** Three stages with the published choices of expand ratio, small enough for plain loops. */
export const smallSpace: Space = {
  ...GREY,
  name: 'small',
  mean: [0.3],
  std: [0.35],
  classes: 10,
  resolutions: [12, 16],
  stem: { channels: 8, stride: 1 },
  stages: [
    { channels: 16, stride: 2, activation: 'relu', squeezeExcite: false },
    { channels: 24, stride: 2, activation: 'relu', squeezeExcite: true },
    { channels: 32, stride: 2, activation: 'h_swish', squeezeExcite: true },
  ],
  kernels: [3, 5, 7],
  expands: [3, 4, 6],
  depths: [1, 2, 3],
  head: { expand: 4, mix: 4 },
};

/** `space` in each of the eight architectures, by name; parallel blocks with a transformation as their third branch. */
export function allArchitectures(space: Space): readonly (readonly [name: string, space: Space])[] {
  return ARCHITECTURES.map((name) => [name, value(withArchitecture(space, name))] as const);
}

/** `space` with parallel blocks whose third branch is attention. */
export function withAttention(space: Space): Space {
  return { ...space, name: `${space.name}-attention`, parallel: { masks: [1, 2, 3, 4, 5, 6, 7], third: 'attention' } };
}
