// What a device says of itself, as a value.
import type { DeviceInfo } from '@ofa-fleet/shared/device.ts';

export function deviceInfo(deviceClass: string | null): DeviceInfo {
  return {
    agentVersion: '0.1.0',
    hostname: 'bench',
    platform: 'linux',
    arch: 'x64',
    cpuModel: 'Test CPU',
    cores: 2,
    memoryBytes: 1e9,
    runtime: { name: 'onnxruntime-node', version: '1.30.0' },
    sensors: [],
    deviceClass,
  };
}
