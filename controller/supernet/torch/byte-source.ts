// Bytes that are read where and when they are needed, so that a large file is never in memory as a whole.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { failed, type Outcome } from '@ofa-fleet/shared/outcome.ts';

export interface ByteSource {
  readonly size: number;
  /** Exactly `length` bytes from `offset`; asking beyond `size` is a bug. The result is not shared with anyone. */
  read(offset: number, length: number): Uint8Array;
}

/** Opens `file`, hands it to `use`, and closes it. Fails with NOT_FOUND where it cannot be opened. */
export function withFile<T>(file: string, use: (source: ByteSource) => Outcome<T>): Outcome<T> {
  let descriptor: number;
  try {
    descriptor = openSync(file, 'r');
  } catch (error) {
    return failed(
      'NOT_FOUND',
      `Cannot read ${file} (${error instanceof Error ? error.message : String(error)}): name a file that is there.`,
    );
  }
  try {
    const status = fstatSync(descriptor);
    if (!status.isFile()) return failed('INVALID_INPUT', `${file} is not a file: name the .pth file itself.`);
    return use({
      size: status.size,
      read(offset, length) {
        const bytes = new Uint8Array(length);
        let filled = 0;
        while (filled < length) {
          const got = readSync(descriptor, bytes, filled, length - filled, offset + filled);
          if (got === 0) throw new Error(`${file} became shorter while it was read.`);
          filled += got;
        }
        return bytes;
      },
    });
  } finally {
    closeSync(descriptor);
  }
}
