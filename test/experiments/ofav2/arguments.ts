// What both programs of the experiment are told: the kept one on Fashion-MNIST, or a user's own data.
import type { ParseArgsConfig } from 'node:util';
import { FASHION, ownSetting, type Setting } from './design.ts';
import { RESULTS } from './results.ts';

export const SETTING_OPTIONS = {
  data: { type: 'string' },
  preset: { type: 'string', default: 'ofav2-64-w1.0' },
  scale: { type: 'string', default: '1' },
  settings: { type: 'string' },
  results: { type: 'string', default: RESULTS },
} as const satisfies ParseArgsConfig['options'];

export interface SettingValues {
  readonly data?: string | undefined;
  readonly preset: string;
  readonly scale: string;
  readonly settings?: string | undefined;
  readonly results: string;
}

export function settingOf({ data, preset, scale, settings }: SettingValues): Setting {
  if (data === undefined) return FASHION;
  return ownSetting({ data, preset, scale: Number(scale), settings: settings === undefined ? undefined : Number(settings) });
}

/** The same, for another program. */
export function argumentsOf({ data, preset, scale, settings, results }: SettingValues): string[] {
  const own = data === undefined ? [] : ['--data', data, '--preset', preset, '--scale', scale];
  return [...own, ...(settings === undefined ? [] : ['--settings', settings]), '--results', results];
}
