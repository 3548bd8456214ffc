// Whether a battery feeds this device and how full it is: for the gate before a run, and beside each measurement.
import { join } from 'node:path';
import { listNames, readText } from './host-files.ts';

export interface BatteryState {
  /** As the kernel words it: Charging, Discharging, Full, Not charging, Unknown. */
  readonly status: string;
  readonly percent: number | null;
}

/**
 * The emptiest battery that feeds the device itself (a mouse has one too: scope Device), read from its `uevent` at once; null where there is
 * none (Documentation/ABI/testing/sysfs-class-power).
 */
export function readBatteryState(sysfsRoot: string): BatteryState | null {
  const base = join(sysfsRoot, 'class/power_supply');
  const found = listNames(base).flatMap((name): readonly BatteryState[] => {
    const text = readText(join(base, name, 'uevent')) ?? '';
    const field = (key: string): string | null => new RegExp(`^POWER_SUPPLY_${key}=(.*)$`, 'm').exec(text)?.[1]?.trim() ?? null;
    const type = field('TYPE') ?? readText(join(base, name, 'type'));
    const status = field('STATUS');
    if (status === null || (type !== null && type !== 'Battery') || field('SCOPE') === 'Device' || field('PRESENT') === '0') return [];
    const capacity = field('CAPACITY') ?? '';
    const percent = capacity === '' ? NaN : Number(capacity);
    return [{ status, percent: Number.isFinite(percent) ? percent : null }];
  });
  return found.sort((a, b) => (a.percent ?? 100) - (b.percent ?? 100))[0] ?? null;
}
