// Does the supernet rank as the truth does? Subnets drawn at random, each scored with the weights it inherits, and trained from scratch.
import { allChoices, drawSubnet } from '../../../controller/supernet/training/phases.ts';
import { randomStream } from '../../../controller/supernet/training/random.ts';
import { subnetId, type Subnet } from '../../../controller/subnet.ts';
import { ARMS, FASHION, spaceOf, type Arm } from '../ofav2/design.ts';

/** Whose supernets are asked: OFAv2's best form. */
export const ARM = ARMS.find(({ name }) => name === 'EE_D-pet') as Arm;
export const SPACE = spaceOf(ARM, FASHION.base);
export const SEEDS = [1, 2, 3] as const;
export const SUBNETS: readonly Subnet[] = drawn(20);
/** From scratch: passes over the training images, at the rate of the supernet's full phase; one cosine, labels alone. */
export const EPOCHS = 10;
export const RATE = 0.08;
export const OUT = 'out/experiments/ranking';

/** Different ones, each gene uniform; the exit too, so that small nets are among them. */
function drawn(count: number): Subnet[] {
  const random = randomStream(0, 'ranking');
  const choices = allChoices(SPACE);
  const byId = new Map<string, Subnet>();
  while (byId.size < count) {
    const subnet = drawSubnet(choices, random.of(SPACE.resolutions), random);
    byId.set(subnetId(SPACE, subnet), subnet);
  }
  return [...byId.values()];
}
