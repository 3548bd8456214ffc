// Fine-tuned weights are those of one subnet; the rest of the supernet around it is of no use any more. Whoever makes a model asks here first.
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { canonicalJson } from '../space.ts';
import { subnetId, type Subnet } from '../subnet.ts';
import type { Checkpoint } from './checkpoint.ts';

/** Fails with INVALID_INPUT where the weights were fine-tuned for another subnet; resolution counts, since it was tuned at one. */
export function refuseUntuned({ space, provenance }: Pick<Checkpoint, 'space' | 'provenance'>, subnet: Subnet): Outcome<null> {
  const tuned = provenance?.finetuned?.subnet;
  if (tuned === undefined || canonicalJson(tuned) === canonicalJson(subnet)) return ok(null);
  return failed(
    'INVALID_INPUT',
    `These weights were fine-tuned for subnet ${subnetId(space, tuned as Subnet)} alone, not for ${subnetId(space, subnet)}: ` +
      'give --subnet the subnet.json that was written beside them, or take the supernet that they came from.',
  );
}

/** Fails with INVALID_INPUT for fine-tuned weights: a search asks for any subnet. `file` names them. */
export function refuseTuned({ space, provenance }: Pick<Checkpoint, 'space' | 'provenance'>, file: string): Outcome<null> {
  const tuned = provenance?.finetuned?.subnet;
  if (tuned === undefined) return ok(null);
  return failed(
    'INVALID_INPUT',
    `${file} was fine-tuned for subnet ${subnetId(space, tuned as Subnet)} alone, and a search needs every subnet of a supernet: give the ` +
      `supernet that it came from; for this one: ofa-fleet export ${file} --subnet SUBNET.json --out DIR.`,
  );
}
