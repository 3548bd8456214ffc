// What this device says of itself when it joins. Asks systeminformation, which starts processes: never while a measurement runs.
import { arch, cpus, hostname, platform, totalmem } from 'node:os';
import si from 'systeminformation';
import type { DeviceInfo } from '@ofa-fleet/shared/device.ts';
import { ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { HOST_ROOTS } from './host-files.ts';
import { AGENT_VERSION } from './machine.ts';
import { discoverMeters, meterHost } from './meters/discover.ts';
import type { PlugAddress } from './meters/meter.ts';
import { loadRuntime, type RuntimeName } from './runtime/runtimes.ts';

export interface InventorySettings {
  readonly runtime: RuntimeName;
  /** Given by the operator; null: derived from what the device is. */
  readonly deviceClass: string | null;
  readonly plugs: readonly PlugAddress[];
}

const MAX_SENSORS = 32;
const MAX_TEXT = 512;

/** Fails with the runtime's reason where it cannot be loaded: a device that cannot measure does not join. */
export async function readInventory({ runtime, deviceClass, plugs }: InventorySettings): Promise<Outcome<DeviceInfo>> {
  const loaded = await loadRuntime(runtime);
  if (!loaded.ok) return loaded;
  const cpu = await si.cpu();
  const brand = [cpu.manufacturer, cpu.brand].filter((part) => part !== '').join(' ');
  // On boards whose firmware names no CPU, what the kernel says is better than nothing.
  const cpuModel = brand === '' ? (cpus()[0]?.model.trim() ?? 'unknown') : brand;
  return ok({
    agentVersion: AGENT_VERSION,
    hostname: hostname().slice(0, MAX_TEXT),
    platform: platform(),
    arch: arch(),
    cpuModel: cpuModel.slice(0, MAX_TEXT),
    cores: Math.max(1, cpus().length),
    memoryBytes: totalmem(),
    runtime: { name: runtime, version: loaded.value.identity.version },
    sensors: discoverMeters(meterHost(HOST_ROOTS.sysfsRoot, plugs))
      .meters.slice(0, MAX_SENSORS)
      .map(({ info }) => info.sensor.slice(0, MAX_TEXT)),
    deviceClass,
  });
}
