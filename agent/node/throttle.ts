// By what a board says that it slows itself: flags of a Raspberry Pi's firmware, supply alarms of a Jetson, thermal throttle counters of x86 and
// cooling devices. Only files that cost little to read; counters are differenced by whoever reads them twice.
import { join } from 'node:path';
import type { FirmwareEvent, RunConditions } from '@ofa-fleet/shared/measurement.ts';
import { listNames, readNumber, readText } from './host-files.ts';

/** Bit n: now; bit 16 + n: since boot (Raspberry Pi documentation, vcgencmd get_throttled). */
const FIRMWARE_EVENTS: readonly FirmwareEvent[] = ['under-voltage', 'frequency-capped', 'throttled', 'soft-temperature-limit'];
const STICKY_SHIFT = 16;

export function liveEvents(bits: number): readonly FirmwareEvent[] {
  return FIRMWARE_EVENTS.filter((_, bit) => (bits & (1 << bit)) !== 0);
}

export function pastEvents(bits: number): readonly FirmwareEvent[] {
  return liveEvents(bits >>> STICKY_SHIFT);
}

/** Where the firmware's driver shows its flags: `soc/soc:firmware` on most boards, by another name of the bus on later ones. Null: no Raspberry Pi. */
export function firmwareFile(sysfsRoot: string): string | null {
  const base = join(sysfsRoot, 'devices/platform');
  const buses = listNames(base).filter((name) => name.startsWith('soc'));
  const folders = [base, ...buses.map((bus) => join(base, bus))].flatMap((folder) =>
    listNames(folder)
      .filter((name) => name.endsWith('firmware'))
      .map((name) => join(folder, name, 'get_throttled')),
  );
  return folders.find((file) => readText(file) !== null) ?? null;
}

/** Flags as a number, from hexadecimal with or without 0x; null where the file holds none. */
export function readFirmwareBits(file: string): number | null {
  const text = readText(file) ?? '';
  return /^(0x)?[0-9a-f]{1,8}$/i.test(text) ? Number.parseInt(text, 16) : null;
}

/** The firmware's under-voltage alarm of the last 2 s, as kernels without its flags show it (Documentation/hwmon/raspberrypi-hwmon). */
export function readVoltageAlarm(sysfsRoot: string): boolean | null {
  const base = join(sysfsRoot, 'class/hwmon');
  const folder = listNames(base).find((name) => readText(join(base, name, 'name')) === 'rpi_volt');
  const alarm = folder === undefined ? null : readNumber(join(base, folder, 'in0_lcrit_alarm'));
  return alarm === null ? null : alarm > 0;
}

type SupplyAlarm = NonNullable<RunConditions['supplyAlarms']>[number];

/** Which inputs of the over-current controller watch a voltage; the others watch currents. Unknown boards: all are taken for currents. */
const VOLTAGE_INPUTS: readonly { readonly board: RegExp; readonly inputs: readonly string[] }[] = [
  { board: /nvidia,tegra234/, inputs: ['oc1'] }, // Orin (Jetson Linux Developer Guide, "Jetson Orin: over-current throttling")
  { board: /p3668/, inputs: ['oc2'] }, // Xavier NX (forums.developer.nvidia.com/t/307919)
];

/** Counts since boot; null where this is no Jetson, or one without counters. */
export function readSupplyAlarms(sysfsRoot: string): readonly SupplyAlarm[] | null {
  const base = join(sysfsRoot, 'class/hwmon');
  const board = readText(join(sysfsRoot, 'firmware/devicetree/base/compatible')) ?? '';
  const voltages = VOLTAGE_INPUTS.find((known) => known.board.test(board))?.inputs ?? [];
  const alarms = listNames(base)
    .filter((name) => readText(join(base, name, 'name')) === 'soctherm_oc')
    .flatMap((folder) =>
      listNames(join(base, folder)).flatMap((file): readonly SupplyAlarm[] => {
        const input = /^(oc\d+)_(event|irq)_cnt$/.exec(file)?.[1]; // named irq in JetPack 4
        const events = readNumber(join(base, folder, file));
        if (input === undefined || events === null) return [];
        return [{ input, kind: voltages.includes(input) ? 'under-voltage' : 'over-current', events }];
      }),
    );
  return alarms.length === 0 ? null : alarms;
}

/** Throttle events of all cores, and of the packages that they share; null where the processor has no such counters. */
export function readThermalThrottles(sysfsRoot: string): number | null {
  const base = join(sysfsRoot, 'devices/system/cpu');
  const packages = new Map<string, number>();
  let cores: number | null = null;
  for (const cpu of listNames(base).filter((name) => /^cpu\d+$/.test(name))) {
    const core = readNumber(join(base, cpu, 'thermal_throttle/core_throttle_count'));
    const whole = readNumber(join(base, cpu, 'thermal_throttle/package_throttle_count'));
    if (core !== null) cores = (cores ?? 0) + core;
    if (whole !== null) packages.set(readText(join(base, cpu, 'topology/physical_package_id')) ?? '', whole);
  }
  if (cores === null && packages.size === 0) return null;
  return [...packages.values()].reduce((sum, count) => sum + count, cores ?? 0);
}

/** Names of cooling devices that slow a processor: by its clock (thermal-cpufreq-0, cpufreq-cpu0, cpu-cluster0), or by ACPI. */
const PROCESSOR_COOLING = /^(Processor|thermal-cpufreq|cpufreq|cpu-|intel_powerclamp)/i;

export interface Cooling {
  readonly device: string;
  readonly state: number;
}

/** Those at work now; fans are not among them. Null where this machine shows none at all. */
export function readCooling(sysfsRoot: string): readonly Cooling[] | null {
  const base = join(sysfsRoot, 'class/thermal');
  const all = listNames(base)
    .filter((name) => name.startsWith('cooling_device'))
    .flatMap((name): readonly Cooling[] => {
      const device = readText(join(base, name, 'type')) ?? '';
      const state = readNumber(join(base, name, 'cur_state'));
      return PROCESSOR_COOLING.test(device) && state !== null ? [{ device, state }] : [];
    });
  return all.length === 0 ? null : all.filter(({ state }) => state > 0);
}
