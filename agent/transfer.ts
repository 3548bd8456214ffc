// Fetches what a manifest names and this device lacks, block by block over MQTT: the agent pulls, so what is lost is asked for again. Only
// blobs whose SHA-256 is right come to exist.
import { BLOCK_BYTES, blobsOf, manifestSchema, type BlobRef, type Manifest } from '@ofa-fleet/shared/artifact.ts';
import type { Frame } from '@ofa-fleet/shared/blocks.ts';
import type { Clock } from '@ofa-fleet/shared/clock.ts';
import { failed, ok, type Failure, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { DownPayload, UpPayload } from '@ofa-fleet/shared/protocol.ts';
import type { BlobShelf, DiskSpace, IncomingBlob } from './ports.ts';

/** Blocks on the way at once; the connection has 10 places. */
const WINDOW = 4;
/** An answer that takes longer is asked for again. */
const ANSWER_MS = 10_000;
/** Without a block for so long the fetch is given up; what has come stays for the next try. */
const STALL_MS = 60_000;
const OFFLINE_RETRY_MS = 500;
/** Bad blocks of one blob before it is given up. */
const MAX_BAD_BLOCKS = 5;
const MIB = 1024 * 1024;
/** Free space that must stay: 5 % of the disk, at least 256 MiB and at most 1 GiB. */
const RESERVE = { share: 0.05, minBytes: 256 * MIB, maxBytes: 1024 * MIB };

export interface TransferHost {
  readonly models: BlobShelf;
  readonly disk: () => Promise<DiskSpace | null>;
  readonly clock: Clock;
  /** False where it could not be sent. */
  readonly send: (request: UpPayload<'art-req'>) => Promise<boolean>;
}

export interface Transfer {
  /** The manifest, once every blob that it names is here. `onBytes` is told how much is lacking before it is fetched, and as it shrinks. */
  fetch(ref: BlobRef, signal: AbortSignal, onBytes: (lackingBytes: number) => void): Promise<Outcome<Manifest>>;
  onFrame(frame: Frame): void;
  onControl(answer: DownPayload<'art-ctl'>): void;
}

/** LOW_DISK where `neededBytes` twice over and the reserve do not fit; null where they do or the host does not tell. */
export async function diskShortage(disk: TransferHost['disk'], neededBytes: number): Promise<Failure | null> {
  const space = await disk();
  if (space === null) return null;
  const reserve = Math.min(RESERVE.maxBytes, Math.max(RESERVE.minBytes, RESERVE.share * space.totalBytes));
  const wanted = 2 * neededBytes + reserve;
  if (space.freeBytes >= wanted) return null;
  const mib = (bytes: number) => `${Math.ceil(bytes / MIB)} MiB`;
  return failed(
    'LOW_DISK',
    `${mib(space.freeBytes)} are free where models are kept, ${mib(wanted)} are needed; free some space: work goes on by itself then`,
  );
}

type Answer = { readonly frame: Frame } | { readonly control: DownPayload<'art-ctl'> } | null;

export function createTransfer({ models, disk, clock, send }: TransferHost): Transfer {
  const open = new Map<number, (answer: Answer) => void>();
  let lastHandle = 0;

  /** One block, or null where nothing came in time. */
  async function ask(sha256: string, index: number, signal: AbortSignal): Promise<Answer> {
    lastHandle = (lastHandle + 1) % 2 ** 32;
    const handle = lastHandle;
    const done = new AbortController();
    let answer: Answer = null;
    open.set(handle, (got) => {
      answer = got;
      done.abort();
    });
    try {
      const sent = await send({ handle, sha256, first: index, count: 1 });
      await clock.sleep(sent ? ANSWER_MS : OFFLINE_RETRY_MS, AbortSignal.any([signal, done.signal]));
      return answer;
    } finally {
      open.delete(handle);
    }
  }

  /** Asks until the block is there and right, or there is a reason to stop. */
  async function fetchBlock(
    ref: BlobRef,
    part: IncomingBlob,
    index: number,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<Failure | null> {
    for (let bad = 0; !signal.aborted;) {
      if (clock.monotonicMs() - progress.lastBlockMs >= STALL_MS) {
        return progress.busy
          ? failed('BUSY', `the controller was too busy for ${STALL_MS / 1000} s to send a block of ${ref.sha256}`)
          : failed('UNREACHABLE', `no block of ${ref.sha256} came for ${STALL_MS / 1000} s; the controller may be away`);
      }
      const answer = await ask(ref.sha256, index, signal);
      if (answer === null) {
        progress.busy = false;
        continue;
      }
      if ('control' in answer) {
        const { reason, message, retryAfterMs } = answer.control;
        if (reason !== 'BUSY') return failed(reason, message);
        progress.busy = true;
        await clock.sleep(retryAfterMs ?? OFFLINE_RETRY_MS, signal);
        continue;
      }
      const written = await part.write(index, answer.frame.bytes);
      if (written.ok) {
        progress.lastBlockMs = clock.monotonicMs();
        progress.onBlock(answer.frame.bytes.length);
        return null;
      }
      if (written.reason !== 'HASH_MISMATCH' || ++bad >= MAX_BAD_BLOCKS) return written;
    }
    return failed('CANCELED', `the fetch of ${ref.sha256} was called off`);
  }

  /** All blobs at once, WINDOW blocks on the way among them. */
  async function fetchBlobs(refs: readonly BlobRef[], progress: Progress, signal: AbortSignal): Promise<Failure | null> {
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    const tasks = refs.flatMap((ref) => Array.from({ length: Math.ceil(ref.bytes / BLOCK_BYTES) }, (_, index) => ({ ref, index })));
    const parts = new Map<string, Promise<Outcome<IncomingBlob>>>();
    let failure: Failure | null = null;

    async function take({ ref, index }: (typeof tasks)[number]): Promise<Failure | null> {
      const opening = parts.get(ref.sha256) ?? models.openPartial(ref);
      parts.set(ref.sha256, opening);
      const part = await opening;
      if (!part.ok) return part;
      if (part.value.missing().includes(index)) {
        const failedBlock = await fetchBlock(ref, part.value, index, progress, either);
        if (failedBlock !== null) return failedBlock;
      }
      if (part.value.missing().length > 0 || !parts.delete(ref.sha256)) return null;
      const finished = await part.value.finish();
      return finished.ok ? null : finished;
    }

    async function lane(): Promise<void> {
      for (let task = tasks.shift(); task !== undefined && failure === null; task = tasks.shift()) {
        const end = await take(task);
        if (end !== null) {
          failure ??= end;
          stop.abort();
        }
      }
    }
    await Promise.all(Array.from({ length: WINDOW }, lane));
    // what is unfinished stays on the disk for the next time
    for (const opening of parts.values()) {
      const part = await opening;
      if (part.ok) await part.value.close();
    }
    return failure;
  }

  const lackingOf = (refs: readonly BlobRef[]) =>
    [...new Map(refs.map((ref) => [ref.sha256, ref])).values()].filter(({ sha256 }) => !models.has(sha256));

  /** Blobs of more than one block need their list of block digests first. */
  async function fetchAll(refs: readonly BlobRef[], progress: Progress, signal: AbortSignal): Promise<Failure | null> {
    const lacking = lackingOf(refs);
    const lists = lacking.flatMap(({ bytes, blocksSha256 }) =>
      blocksSha256 === null ? [] : [{ sha256: blocksSha256, bytes: Math.ceil(bytes / BLOCK_BYTES) * 32, blocksSha256: null }],
    );
    return (await fetchBlobs(lackingOf(lists), progress, signal)) ?? (await fetchBlobs(lacking, progress, signal));
  }

  return {
    async fetch(ref, signal, onBytes) {
      const progress: Progress = { lastBlockMs: clock.monotonicMs(), busy: false, onBlock: () => undefined };
      const failedManifest = await fetchAll([ref], progress, signal);
      if (failedManifest !== null) return failedManifest;
      const bytes = models.get(ref.sha256);
      if (!bytes.ok) return bytes;
      const parsed = readManifest(bytes.value);
      if (parsed === null)
        return failed('INCOMPATIBLE', `the manifest ${ref.sha256} is not one that this agent can read; update the agent`);
      const blobs = blobsOf(parsed);
      let lackingBytes = lackingOf(blobs).reduce((sum, blob) => sum + blob.bytes, 0);
      if (lackingBytes === 0) return ok(parsed);
      const shortage = await diskShortage(disk, lackingBytes);
      if (shortage !== null) return shortage;
      onBytes(lackingBytes);
      progress.onBlock = (length) => {
        lackingBytes -= length;
        onBytes(Math.max(0, lackingBytes));
      };
      const failure = await fetchAll(blobs, progress, signal);
      return failure ?? ok(parsed);
    },
    onFrame: (frame) => open.get(frame.handle)?.({ frame }),
    onControl: (control) => open.get(control.handle)?.({ control }),
  };
}

interface Progress {
  lastBlockMs: number;
  /** What came last was that the controller is busy. */
  busy: boolean;
  onBlock: (bytes: number) => void;
}

function readManifest(bytes: Uint8Array): Manifest | null {
  try {
    return manifestSchema.parse(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    return null;
  }
}
