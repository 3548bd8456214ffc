// The facts about this machine and program that every measurement carries.
import { cpus } from 'node:os';
import { join } from 'node:path';
import type { Provenance } from '@ofa-fleet/shared/measurement.ts';
import manifest from '../package.json' with { type: 'json' };
import { readText } from './host-files.ts';

export const AGENT_VERSION = manifest.version;

export function readMachine(procRoot: string): Pick<Provenance, 'agentVersion' | 'bootId' | 'nodeVersion' | 'cpuModel' | 'onlineCores'> {
  const cores = cpus();
  return {
    agentVersion: AGENT_VERSION,
    bootId: readText(join(procRoot, 'sys/kernel/random/boot_id')) ?? 'unknown',
    nodeVersion: process.versions.node,
    cpuModel: cores[0]?.model.trim() ?? 'unknown',
    onlineCores: Math.max(1, cores.length),
  };
}
