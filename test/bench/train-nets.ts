// The two nets of `npm run bench:train`, in Once-For-All's own architecture (SE_B), so that its PyTorch code can be timed beside ours.
import { withArchitecture } from '../../controller/architecture.ts';
import { PRESETS, type Space } from '../../controller/space.ts';
import { value } from '../helpers/outcome.ts';

export interface Net {
  readonly name: string;
  readonly widthMultiplier: number;
  readonly side: number;
  readonly space: Space;
}

const published = value(withArchitecture(PRESETS['ofav2-64-w1.0'] as Space, 'SE_B'));
const half = [16, 24, 40, 56, 80];

export const NETS: readonly Net[] = [
  {
    name: 'w0.5@32',
    widthMultiplier: 0.5,
    side: 32,
    space: {
      ...published,
      name: 'bench-w0.5',
      classes: 10,
      resolutions: [32],
      stem: { channels: 8, stride: 2 },
      stages: published.stages.map((stage, s) => ({ ...stage, channels: half[s] as number })),
    },
  },
  { name: 'w1.0@64', widthMultiplier: 1, side: 64, space: { ...published, name: 'bench-w1.0', resolutions: [64] } },
];
