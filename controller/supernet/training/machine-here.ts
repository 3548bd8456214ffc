// What this process computes on, as a run's state and its provenance say it.
import { cpus } from 'node:os';
import type { Backend } from '../backend.ts';
import type { Machine } from './run-state.ts';

export function machineHere({ name, threads }: Pick<Backend, 'name' | 'threads'>): Machine {
  return { backend: name, threads, cpu: cpus()[0]?.model.trim() ?? 'unknown' };
}
