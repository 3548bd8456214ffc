// Reads sensors, whatever their source: files at once, programs and topics as their answers arrive.
import { execFile, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { readNumber, readText } from '../host-files.ts';
import type { FollowedSource, Meter, PolledSource } from './meter.ts';
import { PARSERS } from './parsers.ts';

/** A program that has not answered by then is given up for this reading. */
const COMMAND_LIMIT_MS = 5000;

export function isPolled(source: Meter['source']): source is PolledSource {
  return source.kind === 'files' || source.kind === 'text';
}

/** Joules or watts now; null where they cannot be read. */
export function readNow(source: PolledSource): number | null {
  if (source.kind === 'text') {
    const text = readText(source.path);
    return text === null ? null : PARSERS[source.parser](text);
  }
  let sum = 0;
  for (const { paths, scale } of source.terms) {
    let product = scale;
    for (const path of paths) {
      const value = readNumber(path);
      if (value === null) return null;
      product *= value;
    }
    sum += product;
  }
  return sum;
}

/** Takes a reading that is `ageMs` old. */
type OnReading = (value: number, ageMs: number) => void;

/** Calls `onReading` with each reading until the returned function is called; texts that hold none are left out, a source that ended is silent. */
export function follow(source: FollowedSource, onReading: OnReading): () => void {
  if (source.kind === 'topic' && source.holdZeroMs !== null) {
    const held = holdZeros(source.holdZeroMs, onReading);
    const stop = follow({ ...source, holdZeroMs: null }, held.take);
    return () => {
      stop();
      held.stop();
    };
  }
  const take = (text: string) => {
    const value = PARSERS[source.parser](text);
    if (value !== null) onReading(value, 0);
  };
  switch (source.kind) {
    case 'command':
      return followCommand(source, take);
    case 'lines':
      return followLines(source, take);
    case 'topic':
      return followTopic(source, take);
  }
}

/** Passes readings on, but a zero only once it has stood for `holdMs` with no other reading since; then as old as it is. */
export function holdZeros(holdMs: number, onReading: OnReading): { readonly take: (value: number) => void; readonly stop: () => void } {
  let zeroSince: number | null = null;
  let timer: NodeJS.Timeout | undefined;
  return {
    take(value) {
      const now = performance.now();
      if (value !== 0) {
        clearTimeout(timer);
        zeroSince = null;
        onReading(value, 0);
      } else if (zeroSince === null) {
        zeroSince = now;
        timer = setTimeout(() => onReading(0, holdMs), holdMs);
      } else if (now - zeroSince >= holdMs) onReading(0, 0);
    },
    stop: () => clearTimeout(timer),
  };
}

/** A rate that keeps step with the inferences would see each of them at the same place: power there, not their mean. */
export function unevenly(ms: number): number {
  return ms * (0.8 + 0.4 * Math.random());
}

function followCommand({ argv, everyMs }: FollowedSource & { kind: 'command' }, take: (text: string) => void): () => void {
  const [program = '', ...args] = argv;
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  const ask = (): void => {
    const began = performance.now();
    execFile(program, args, { timeout: COMMAND_LIMIT_MS, killSignal: 'SIGKILL' }, (error, stdout) => {
      if (stopped) return;
      if (error === null) take(stdout);
      timer = setTimeout(ask, Math.max(0, began + unevenly(everyMs) - performance.now()));
    });
  };
  ask();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

function followLines({ argv, endOfBlock }: FollowedSource & { kind: 'lines' }, take: (text: string) => void): () => void {
  const [program = '', ...args] = argv;
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  child.on('error', () => undefined); // silent, as any source that ended
  let block: string[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (endOfBlock === null) {
      take(line);
      return;
    }
    block.push(line);
    if (!line.includes(endOfBlock)) return;
    take(block.join('\n'));
    block = [];
  });
  return () => void child.kill('SIGKILL');
}

function followTopic({ url, topic, ask }: FollowedSource & { kind: 'topic' }, take: (text: string) => void): () => void {
  let close = (): void => undefined;
  let closed = false;
  // loaded on demand: few devices have a plug
  void import('mqtt').then(({ connect }) => {
    if (closed) return;
    const client = connect(url, { clean: true, reconnectPeriod: 1000 });
    const question = ask === null ? undefined : setInterval(() => client.publish(ask.topic, ask.payload), ask.everyMs);
    client.on('error', () => undefined); // it connects again by itself
    client.on('connect', () => void client.subscribe(topic, () => (ask === null ? undefined : client.publish(ask.topic, ask.payload))));
    // what the broker kept is of another time
    client.on('message', (_, payload, { retain }) => (retain ? undefined : take(payload.toString())));
    close = () => {
      clearInterval(question);
      client.end(true);
    };
  });
  return () => {
    closed = true;
    close();
  };
}
