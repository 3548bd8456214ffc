// The answer of `vcgencmd pmic_read_adc` on a Raspberry Pi 5: a line for each current and each voltage. Grammar: Raspberry Pi documentation, vcgencmd; names,
// order and indices vary by firmware, so a current is paired with the voltage of the same name.

const READING = /(?<=^|\s)(\w+)_([AV])\s+(current|volt)\(\d+\)=(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)[AV]?(?=\s|$)/gi;

/** Watts of all rails; null where a current has no voltage (an answer cut off shows less than the board draws) or nothing is drawn. */
export function parsePmicAdc(text: string): number | null {
  const amperes = new Map<string, number>();
  const volts = new Map<string, number>();
  for (const [, name = '', suffix = '', quantity = '', value = ''] of text.matchAll(READING)) {
    const isCurrent = quantity.toLowerCase() === 'current';
    if (isCurrent !== (suffix.toUpperCase() === 'A')) return null;
    (isCurrent ? amperes : volts).set(name, Number(value));
  }
  let watts = 0;
  for (const [name, current] of amperes) {
    const voltage = volts.get(name); // supplies that are only watched (EXT5V, BATT) have no current
    if (voltage === undefined) return null;
    watts += voltage * current;
  }
  return Number.isFinite(watts) && watts > 0 ? watts : null;
}
