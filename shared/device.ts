// What a device says of itself, and the class under which its numbers may stand together with another's.
import { z } from 'zod';

const text = z.string().max(512);

/** Package, and what computes where it is not the CPU. onnxruntime-node's own build holds `webgpu`; the others need a build of one's own. */
export const RUNTIME_NAMES = [
  'onnxruntime-node',
  'onnxruntime-node:webgpu',
  'onnxruntime-node:cuda',
  'onnxruntime-node:tensorrt',
  'onnxruntime-web',
] as const;
export type RuntimeName = (typeof RUNTIME_NAMES)[number];

export const deviceInfoSchema = z.object({
  agentVersion: text,
  hostname: text,
  platform: text,
  arch: text,
  cpuModel: text,
  cores: z.int().min(1),
  memoryBytes: z.int().min(0),
  runtime: z.object({ name: z.enum(RUNTIME_NAMES), version: text }),
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
  const { name } = info.runtime;
  const runtime = name === 'onnxruntime-web' ? 'wasm' : name === 'onnxruntime-node' ? 'native' : name.replace('onnxruntime-node:', '');
  return `${runtime}-${info.arch}-${info.cpuModel}`
    .toLowerCase()
    .replace(/[^a-z0-9_-]+/g, '-')
    .slice(0, 64)
    .replace(/-+$/, '');
}
