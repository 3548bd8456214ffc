// What every sensor on Node offers: what it is, and where one reading comes from. How it is found and why it may not be there is told beside it.
import type { Reason } from '@ofa-fleet/shared/outcome.ts';
import type { MeterInfo } from '../../ports.ts';
import type { ParserName } from './parsers.ts';

/** The product of the numbers in some files, times `scale`: one file of microwatts, or millivolts and milliamperes. */
export interface Term {
  readonly paths: readonly string[];
  readonly scale: number;
}

/** Read whenever somebody looks. */
export type PolledSource =
  /** The sum of the terms. */
  | { readonly kind: 'files'; readonly terms: readonly Term[] }
  /** The whole text of a file. */
  | { readonly kind: 'text'; readonly path: string; readonly parser: ParserName };

/** Readings arrive by themselves. */
export type FollowedSource =
  /** A process for each reading, since the program answers once. */
  | { readonly kind: 'command'; readonly argv: readonly string[]; readonly everyMs: number; readonly parser: ParserName }
  /** A process that prints a line, or a block ended by `endOfBlock`, for each reading. */
  | { readonly kind: 'lines'; readonly argv: readonly string[]; readonly endOfBlock: string | null; readonly parser: ParserName }
  /** Messages of a topic; `ask` makes the sensor send one. */
  | {
      readonly kind: 'topic';
      readonly url: string;
      readonly topic: string;
      readonly ask: { readonly topic: string; readonly payload: string; readonly everyMs: number } | null;
      /** A zero counts only after it has stood so long: some plugs throw in lone false ones. Null: at once. */
      readonly holdZeroMs: number | null;
      readonly parser: ParserName;
    };

/** Plain data, for the sampling thread. A reading is joules or watts, as `info.kind` says. */
export interface Meter {
  readonly info: MeterInfo;
  readonly source: PolledSource | FollowedSource;
  /** What its readings hold and leave out, for people. */
  readonly scope: string;
  /** As documented, ms: how long it must be watched before it may be called stuck. */
  readonly typicalRefreshMs: number;
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

/** A smart plug that an operator put before this device. */
export interface PlugAddress {
  readonly make: 'tasmota' | 'shelly' | 'zigbee2mqtt';
  /** Its name in the topics: Tasmota's `<t>`, Shelly's prefix, zigbee2mqtt's friendly name. */
  readonly name: string;
  /** The broker that it talks to, with credentials where needed. */
  readonly url: string;
}

/** Where sensors are looked for. */
export interface MeterHost {
  readonly sysfsRoot: string;
  /** Folders of programs; none where another machine's tree is read. */
  readonly programDirs: readonly string[];
  readonly plugs: readonly PlugAddress[];
  /** What runs the models: a sensor that sees only a graphics card tells nothing of a processor's work. */
  readonly computesOn: 'cpu' | 'gpu';
}

/** Where a source reads, for people. */
export function placeOf(source: Meter['source']): string {
  switch (source.kind) {
    case 'files':
      return source.terms.flatMap(({ paths }) => paths).join(', ');
    case 'text':
      return source.path;
    case 'command':
    case 'lines':
      return source.argv.join(' ');
    case 'topic':
      return `${source.topic} at ${source.url.replace(/\/\/[^@/]*@/, '//')}`; // never a password
  }
}
