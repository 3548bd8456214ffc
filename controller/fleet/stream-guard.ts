// Stands between a socket and the broker, which knows no packet limit of its own: reads the length in each MQTT header and closes the socket
// on one above the cap, before its body is buffered.
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

/** Counts through MQTT packets without keeping them. `feed` returns what is wrong, or null. */
export function createPacketCounter(maxBytes: number): { feed(chunk: Uint8Array): string | null } {
  /** Bytes of the current packet's body still to come. */
  let body = 0;
  /** Position in the header: 0 = type byte, 1..4 = length bytes. */
  let position = 0;
  let length = 0;
  return {
    feed(chunk) {
      for (let i = 0; i < chunk.length;) {
        if (body > 0) {
          const skipped = Math.min(body, chunk.length - i);
          body -= skipped;
          i += skipped;
          continue;
        }
        const byte = chunk[i++] as number;
        if (position === 0) {
          position = 1;
          length = 0;
          continue;
        }
        length += (byte & 0x7f) * 128 ** (position - 1);
        if ((byte & 0x80) !== 0) {
          if (position === 4) return 'the length of an MQTT packet has more than four bytes';
          position++;
          continue;
        }
        const total = 1 + position + length;
        if (total > maxBytes) return `an MQTT packet of ${total} bytes is above the limit of ${maxBytes}`;
        position = 0;
        body = length;
      }
      return null;
    },
  };
}

/** The socket as the broker gets it. `onRefused` is told why it was closed. */
export function guardSocket(socket: Socket, maxBytes: number, onRefused: (why: string) => void): Duplex {
  const counter = createPacketCounter(maxBytes);
  const guarded = new Duplex({
    allowHalfOpen: false,
    read() {
      socket.resume();
    },
    write(chunk: Uint8Array, _encoding, done) {
      socket.write(chunk, done);
    },
    writev(chunks, done) {
      // one segment for what the broker wrote together
      socket.cork();
      for (const [i, { chunk }] of chunks.entries()) socket.write(chunk as Uint8Array, i === chunks.length - 1 ? done : undefined);
      socket.uncork();
    },
    final(done) {
      socket.end(done);
    },
    destroy(error, done) {
      socket.destroy();
      done(error);
    },
  });
  socket.on('data', (chunk) => {
    const wrong = counter.feed(chunk);
    if (wrong !== null) {
      onRefused(wrong);
      guarded.destroy();
    } else if (!guarded.push(chunk)) socket.pause();
  });
  socket.on('end', () => guarded.push(null));
  socket.on('error', (error) => guarded.destroy(error));
  socket.on('close', () => guarded.destroy());
  return guarded;
}
