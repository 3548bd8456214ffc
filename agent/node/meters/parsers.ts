// Every grammar in which a sensor tells a reading, by the name under which a meter asks for it (a function cannot be sent to a thread).
import { parseBatteryUevent, parseTermuxBattery } from './battery-grammar.ts';
import { parseShellyEnergy, parseShellyPower, parseTasmota, parseZigbee } from './plug-grammar.ts';
import { parseNvidiaSmi, parsePowermetrics } from './power-program-grammar.ts';
import { parsePmicAdc } from './pmic-adc.ts';
import { parseTegrastats } from './tegrastats-line.ts';

/** Joules or watts; null where the text holds no reading. Never throws. */
export type Parser = (text: string) => number | null;

export const PARSERS = {
  number: parseNumber,
  tegrastats: parseTegrastats,
  pmic: parsePmicAdc,
  'battery-uevent': parseBatteryUevent,
  'termux-battery': parseTermuxBattery,
  powermetrics: parsePowermetrics,
  'nvidia-smi': parseNvidiaSmi,
  tasmota: parseTasmota,
  'shelly-energy': parseShellyEnergy,
  'shelly-power': parseShellyPower,
  zigbee2mqtt: parseZigbee,
} as const satisfies Readonly<Record<string, Parser>>;

export type ParserName = keyof typeof PARSERS;

function parseNumber(text: string): number | null {
  const value = text.trim() === '' ? NaN : Number(text);
  return Number.isFinite(value) ? value : null;
}
