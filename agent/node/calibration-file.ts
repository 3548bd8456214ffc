// Where calibrations are kept: one file in the agent's state folder, one entry for each pair of a sensor and a plug, the newest.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { calibrationSchema, type Calibration } from '../calibration.ts';
import type { PlugAddress } from './meters/meter.ts';

export function calibrationPath(stateDir: string): string {
  return join(stateDir, 'calibrations.json');
}

/** None where there is no file. CORRUPT_FILE where it cannot be read. */
export function readCalibrations(stateDir: string): Outcome<readonly Calibration[]> {
  const path = calibrationPath(stateDir);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ok([]);
    return failed('CORRUPT_FILE', `${path} cannot be read: ${(error as Error).message}`);
  }
  try {
    return ok(z.array(calibrationSchema).parse(JSON.parse(text)));
  } catch {
    return failed('CORRUPT_FILE', `${path} is damaged; remove it and calibrate again`);
  }
}

/** Those that a measurement with these plugs can be held against; none, and a line to `tell`, where they cannot be read. */
export function calibrationsFor(plugs: readonly PlugAddress[], stateDir: string, tell: (line: string) => void): readonly Calibration[] {
  if (plugs.length === 0) return [];
  const kept = readCalibrations(stateDir);
  if (kept.ok) return kept.value;
  tell(`${kept.message}. The plug is not held against this device's own sensor.`);
  return [];
}

/** In place of an older one of the same pair; whole or not at all. INVALID_INPUT where the folder cannot be written. */
export function keepCalibration(stateDir: string, calibration: Calibration): Outcome<string> {
  const kept = readCalibrations(stateDir);
  if (!kept.ok) return kept;
  const others = kept.value.filter(({ rail, plug }) => rail.sensor !== calibration.rail.sensor || plug !== calibration.plug);
  const path = calibrationPath(stateDir);
  try {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    writeFileSync(`${path}.tmp`, `${JSON.stringify([...others, calibration], null, 2)}\n`, { flush: true });
    renameSync(`${path}.tmp`, path);
  } catch (error) {
    return failed('INVALID_INPUT', `cannot write ${path}: ${(error as Error).message}; choose another folder with --state`);
  }
  return ok(path);
}
