// What a device says of itself, and the class under which its numbers may stand together with another's.
import { z } from 'zod';

const text = z.string().max(512);

export const deviceInfoSchema = z.object({
  agentVersion: text,
  hostname: text,
  platform: text,
  arch: text,
  cpuModel: text,
  cores: z.int().min(1),
  memoryBytes: z.int().min(0),
  runtime: z.object({ name: z.enum(['onnxruntime-node', 'onnxruntime-web']), version: text }),
  /** Energy sensors taken, e.g. `rapl package-0`; empty where there are none. */
  sensors: z.array(text).max(32),
  /** Given by the operator; overrides what is derived. */
  deviceClass: z
    .string()
    .regex(/^[a-z0-9][a-z0-9_-]{0,63}$/)
    .nullable(),
});
export type DeviceInfo = Readonly<z.infer<typeof deviceInfoSchema>>;

/** Devices of one class are taken to measure alike: same runtime, architecture and CPU model. Matches `[a-z0-9][a-z0-9_-]{0,63}`. */
export function deviceClass(info: DeviceInfo): string {
  if (info.deviceClass !== null) return info.deviceClass;
  const runtime = info.runtime.name === 'onnxruntime-web' ? 'wasm' : 'native';
  return `${runtime}-${info.arch}-${info.cpuModel}`
    .toLowerCase()
    .replace(/[^a-z0-9_-]+/g, '-')
    .slice(0, 64)
    .replace(/-+$/, '');
}
