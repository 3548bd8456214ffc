// A search after a restart: the recorded asks and tells, repeated in their recorded interleaving.
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Ask, Search, Tell } from './search.ts';

/**
 * Brings a fresh `search` to where the recorded one was. `asks` and `tells` are in the order they happened; an ask came after `toldBefore` tells.
 * Fails as INVALID_INPUT where the search proposes another subnet than the record: other settings or another version wrote it.
 */
export function replay(
  search: Search,
  asks: readonly Pick<Ask, 'n' | 'subnetId' | 'toldBefore'>[],
  tells: readonly Tell[],
): Outcome<{ readonly asks: number; readonly tells: number }> {
  const tellUpTo = (count: number) => {
    for (const tell of tells.slice(search.toldCount, count)) search.tell(tell);
  };
  for (const recorded of asks) {
    tellUpTo(recorded.toldBefore);
    const ask = search.ask();
    if (ask?.n !== recorded.n || ask.subnetId !== recorded.subnetId || ask.toldBefore !== recorded.toldBefore) {
      const proposed = ask === null ? 'nothing' : `ask ${ask.n} = subnet ${ask.subnetId} after ${ask.toldBefore} tells`;
      return failed(
        'INVALID_INPUT',
        `The record says ask ${recorded.n} = subnet ${recorded.subnetId} after ${recorded.toldBefore} tells, this search proposes ${proposed}: ` +
          'the campaign was made with other settings or another version. Start a new campaign, or continue it with the version that began it.',
      );
    }
  }
  tellUpTo(tells.length);
  return ok({ asks: asks.length, tells: tells.length });
}
