// What the gates before a run look at on Linux: temperature, what slows the board now, battery, CPU time. Small files only: no program is started.
import { join } from 'node:path';
import type { DeviceState } from '../gates.ts';
import { readBatteryState } from './battery-state.ts';
import { readCpuTime } from './conditions.ts';
import { readText, type HostRoots } from './host-files.ts';
import { readTemperatureC } from './temperature.ts';
import { firmwareFile, liveEvents, readCooling, readFirmwareBits, readVoltageAlarm } from './throttle.ts';

/** The kernel counts CPU time in ticks of 10 ms on all common builds (USER_HZ = 100). */
const TICK_MS = 10;

/** CPU time of this process and of those that it started and that have ended (proc(5), fields 14 to 17 of stat). */
function readOwnMs(procRoot: string): number | null {
  const stat = readText(join(procRoot, 'self/stat'));
  if (stat === null) return null;
  const ticks = stat.slice(stat.lastIndexOf(')') + 2).split(' ').slice(11, 15).map(Number); // prettier-ignore
  return ticks.length === 4 && ticks.every(Number.isFinite) ? ticks.reduce((sum, tick) => sum + tick, 0) * TICK_MS : null;
}

function readSlowed(sysfsRoot: string): DeviceState['slowed'] {
  const file = firmwareFile(sysfsRoot);
  const live = file === null ? [] : liveEvents(readFirmwareBits(file) ?? 0);
  if (live.includes('under-voltage') || readVoltageAlarm(sysfsRoot) === true) {
    const message = 'the supply voltage is below the limit of the board: use the power supply made for it and a short thick cable';
    return { reason: 'UNDER_VOLTAGE', message };
  }
  if (live.length > 0) {
    const message = `the firmware slows the board (${live.join(', ')}): let it cool, or improve its cooling`;
    return { reason: 'TOO_HOT', message };
  }
  const [cooling] = readCooling(sysfsRoot) ?? [];
  if (cooling === undefined) return null;
  const message = `the kernel slows the processor for its temperature (${cooling.device} at state ${cooling.state}): let it cool, or improve its cooling`;
  return { reason: 'TOO_HOT', message };
}

export function readDeviceState({ sysfsRoot, procRoot }: HostRoots): DeviceState {
  const cpu = readCpuTime(procRoot);
  const ownMs = readOwnMs(procRoot);
  return {
    temperatureC: readTemperatureC(sysfsRoot),
    slowed: readSlowed(sysfsRoot),
    battery: readBatteryState(sysfsRoot),
    cpu: cpu === null || ownMs === null ? null : { totalMs: cpu.totalMs, busyMs: cpu.busyMs, ownMs },
  };
}
