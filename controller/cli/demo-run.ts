// What the stages of the demo hand to each other.
import type { Controller } from '../main.ts';
import type { Context } from './context.ts';
import type { DemoAgent } from './demo-agents.ts';
import type { LiveDisplay } from './live-display.ts';

export interface DemoOptions {
  readonly subnets: number;
  /** Seconds from the start of the demo to the end of its search. */
  readonly cap: number;
  readonly budget?: number;
  readonly seed: number;
  readonly out: string;
  readonly checkpoint: string;
  readonly data?: string;
  readonly threads: number;
}

/** They differ for real: a native runtime, and WebAssembly as a phone's browser runs it. Each is a device class of its own. */
export const AGENTS: readonly DemoAgent[] = [
  { name: 'native', runtime: 'onnxruntime-node' },
  { name: 'wasm', runtime: 'onnxruntime-web' },
];

export interface DemoRun {
  readonly options: DemoOptions;
  readonly context: Context;
  readonly controller: Controller;
  readonly display: LiveDisplay;
  readonly out: string;
  /** Monotonic times: the search ends; what only the comparison needs ends. */
  readonly capAt: number;
  readonly comparisonEndsAt: number;
}
