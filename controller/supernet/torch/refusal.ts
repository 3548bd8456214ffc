// Why a file is not read: thrown deep inside the readers of this folder, and turned into an Outcome where they are entered.

/** `message` ends a sentence that begins with the file's name, e.g. "is cut short: …". */
export class Refusal extends Error {}

export function refuse(what: string): never {
  throw new Refusal(what);
}
