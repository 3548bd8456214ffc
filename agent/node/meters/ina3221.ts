// Power monitors of NVIDIA's Jetson modules, as the kernel shows them: INA3221 by iio in milliwatts (JetPack 4), by hwmon as volts and amperes (JetPack 5
// and 6), and the INA238 at the input of Thor. Places and units: Jetson Linux Developer Guide, kernel Documentation/hwmon/{ina3221,ina238}.
import { join } from 'node:path';
import { listNames, readNumber, readText } from '../host-files.ts';
import type { Discovery, Meter, MeterHost, Term, Unusable } from './meter.ts';
import { isNoRail, totalOf } from './jetson-rails.ts';

const MILLI = 1e-3;
const MICRO = 1e-6;
/** The driver converts in at least that; JetPack 4 does not tell. */
const TYPICAL_REFRESH_MS = 100;
/** Data sheet: 40 µV of shunt voltage, at the 5 mΩ that Jetson modules carry. */
const LSB_AMPERES = 0.008;
const TYPICAL_VOLTS = 5;
/** The chip's own is below 1 %; the shunts of the modules are not documented. */
const GAIN = 0.05;
const CHANNELS = [1, 2, 3];
/** The TX2 of early JetPack 4 names no rails; the first channel of the monitor at 0x41 is the module's input (thermal design guide). */
const TX2_INPUT = { device: '0-0041', channel: 0, name: 'VDD_IN' };

interface Rail {
  readonly name: string;
  readonly term: Term;
  readonly refreshMs: number;
  readonly volts: number;
}

/** Volts and amperes of the channels of one chip; `in4` to `in7` are shunt voltages and their sum, `curr4` is the sum of currents. */
function hwmonRails(folder: string): readonly Rail[] {
  const refreshMs = readNumber(join(folder, 'update_interval')) ?? TYPICAL_REFRESH_MS;
  return CHANNELS.flatMap((channel) => {
    const name = readText(join(folder, `in${channel}_label`)) ?? '';
    const off = readNumber(join(folder, `in${channel}_enable`)) === 0;
    if (isNoRail(name) || off) return [];
    const volts = (readNumber(join(folder, `in${channel}_input`)) ?? 0) * MILLI;
    const paths = [join(folder, `in${channel}_input`), join(folder, `curr${channel}_input`)];
    return [{ name, term: { paths, scale: MICRO }, refreshMs, volts }];
  });
}

/** Milliwatts of the channels of one chip, of which the kernel counts the first as 0. */
function iioRails(folder: string, device: string): readonly Rail[] {
  return [0, 1, 2].flatMap((channel) => {
    const known = device === TX2_INPUT.device && channel === TX2_INPUT.channel ? TX2_INPUT.name : '';
    const name = readText(join(folder, `rail_name_${channel}`)) ?? known;
    if (isNoRail(name)) return [];
    const volts = (readNumber(join(folder, `in_voltage${channel}_input`)) ?? 0) * MILLI;
    const term = { paths: [join(folder, `in_power${channel}_input`)], scale: MILLI };
    return [{ name, term, refreshMs: TYPICAL_REFRESH_MS, volts }];
  });
}

const foldersIn = (path: string, pattern: RegExp) => listNames(path).filter((name) => pattern.test(name));

/** Folders of chips that hwmon shows, each once: the driver's folder, the bus and the class show the same `hwmonN`. */
function hwmonFolders(sysfsRoot: string, driver: string): readonly string[] {
  const found = new Map<string, string>();
  const take = (base: string, isKnown: boolean): void => {
    for (const name of foldersIn(base, /^hwmon\d+$/)) {
      const folder = join(base, name);
      if (!found.has(name) && (isKnown || readText(join(folder, 'name')) === driver)) found.set(name, folder);
    }
  };
  const [own, all] = [join(sysfsRoot, 'bus/i2c/drivers', driver), join(sysfsRoot, 'bus/i2c/devices')];
  for (const device of listNames(own)) take(join(own, device, 'hwmon'), true);
  for (const device of listNames(all)) take(join(all, device, 'hwmon'), false);
  take(join(sysfsRoot, 'class/hwmon'), false);
  return [...found.values()];
}

/** Folders of chips that iio shows, by device (e.g. `0-0041`): in the driver's folder, else where early releases for the TX2 have them. */
function iioFolders(sysfsRoot: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  const take = (base: string): void => {
    for (const device of listNames(base)) {
      const [iio] = foldersIn(join(base, device), /^iio(_device|:device\d+)$/);
      if (iio !== undefined && !found.has(device)) found.set(device, join(base, device, iio));
    }
  };
  take(join(sysfsRoot, 'bus/i2c/drivers/ina3221x'));
  if (found.size === 0) take(join(sysfsRoot, 'bus/i2c/devices'));
  if (found.size > 0) return found;
  const devices = join(sysfsRoot, 'devices');
  for (const bus of foldersIn(devices, /^[0-9a-f]+\.i2c$/))
    for (const adapter of foldersIn(join(devices, bus), /^i2c-\d+$/)) take(join(devices, bus, adapter));
  return found;
}

/** Whether an INA238 is the one at the input of a Jetson Thor; anybody may solder another one anywhere. */
export function isModuleInput(folder: string, sysfsRoot: string): boolean {
  const label = readText(join(folder, 'in1_label')) ?? readText(join(folder, 'power1_label'));
  if (readText(join(folder, 'name')) !== 'ina238') return false;
  return label === null
    ? (readText(join(sysfsRoot, 'firmware/devicetree/base/compatible'))?.includes('nvidia,tegra264') ?? false)
    : label === 'VIN';
}

function moduleInputs(sysfsRoot: string): readonly Rail[] {
  return hwmonFolders(sysfsRoot, 'ina238')
    .filter((folder) => isModuleInput(folder, sysfsRoot))
    .map((folder) => ({
      name: 'VIN',
      term: { paths: [join(folder, 'power1_input')], scale: MICRO },
      refreshMs: readNumber(join(folder, 'update_interval')) ?? TYPICAL_REFRESH_MS,
      volts: (readNumber(join(folder, 'in1_input')) ?? 0) * MILLI,
    }));
}

function meterOf(rails: readonly Rail[], scope: string): Meter {
  const steps = rails.map(({ volts }) => LSB_AMPERES * (volts > 0 ? volts : TYPICAL_VOLTS));
  return {
    source: { kind: 'files', terms: rails.map(({ term }) => term) },
    scope,
    typicalRefreshMs: Math.max(...rails.map(({ refreshMs }) => refreshMs)),
    info: {
      sensor: `jetson ${rails.map(({ name }) => name).join(' + ')}`,
      boundary: 'module',
      kind: 'power',
      lsb: Math.hypot(...steps),
      wrapJoules: null,
      gain: GAIN,
    },
  };
}

/** The total of the module by the rules of jetson-rails.ts; the other rails are named with why they are not added. */
export function discoverIna3221({ sysfsRoot }: MeterHost): Discovery {
  const iio = [...iioFolders(sysfsRoot)].flatMap(([device, folder]) => iioRails(folder, device));
  const rails = [
    ...moduleInputs(sysfsRoot),
    ...hwmonFolders(sysfsRoot, 'ina3221').flatMap(hwmonRails),
    ...iio, // a kernel shows a chip in one of both ways
  ].filter((rail, i, all) => all.findIndex(({ name }) => name === rail.name) === i);
  if (rails.length === 0) return { meters: [], unusable: [] };

  const unusable: Unusable[] = [];
  const skip = (name: string, message: string) => unusable.push({ sensor: `jetson ${name}`, reason: 'SENSOR_MISSING', message });
  const names = rails.map(({ name }) => name);
  const total = totalOf(names);
  if (total === null) {
    skip(
      names.join(', '),
      `it is not known which of these rails contain which, so they are not added up. Tell us the board (cat /sys/firmware/devicetree/base/model), or put a smart plug before it (--plug).`,
    );
    return { meters: [], unusable };
  }
  const parts = total.rails.map((name) => rails.find((rail) => rail.name === name) as Rail);
  const dark = parts.flatMap(({ term }) => term.paths).filter((path) => readNumber(path) === null);
  if (dark.length > 0) {
    skip(total.rails.join(' + '), `${dark.join(', ')} cannot be read. Allow it: sudo chmod a+r ${dark.join(' ')}.`);
    return { meters: [], unusable };
  }
  for (const name of names.filter((other) => !total.rails.includes(other))) {
    const why =
      total.rails.length === 1
        ? `it lies inside of ${total.rails.join()}, which is the total: never added to it.`
        : `it is left out of the sum ${total.rails.join(' + ')}: it is not documented whether it lies inside of one of these.`;
    skip(name, why);
  }
  return { meters: [meterOf(parts, total.scope)], unusable };
}
