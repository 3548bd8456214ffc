// Packet limits on real sockets, before the broker's own parser sees them; and the counting itself against every way of cutting a stream.
import { once } from 'node:events';
import { connect } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import mqttPacket from 'mqtt-packet';
import { systemClock } from '../../../shared/clock.ts';
import { startBroker, type Broker } from '../../../controller/fleet/broker.ts';
import { createPacketCounter } from '../../../controller/fleet/stream-guard.ts';
import { openDatabase, type Db } from '../../../controller/store/database.ts';
import { value } from '../../helpers/outcome.ts';

const packetOf = (bytes: number) =>
  mqttPacket.generate({ cmd: 'publish', topic: 'a', payload: Buffer.alloc(bytes), qos: 0, retain: false, dup: false });

describe('the packet counter', () => {
  it('finds the packet that is too large wherever the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(300), { maxLength: 8 }),
        fc.boolean(),
        fc.infiniteStream(fc.integer({ min: 1, max: 64 })),
        (sizes, tooLarge, cuts) => {
          const stream = Buffer.concat([...sizes, ...(tooLarge ? [600] : [])].map(packetOf));
          const counter = createPacketCounter(400);
          let wrong: string | null = null;
          for (let at = 0; at < stream.length;) {
            const next = Math.min(stream.length, at + (cuts.next().value as number));
            wrong ??= counter.feed(stream.subarray(at, next));
            at = next;
          }
          expect(wrong !== null).toBe(tooLarge);
        },
      ),
    );
  });

  it('refuses a length of more than four bytes', () => {
    expect(createPacketCounter(1e9).feed(Uint8Array.from([0x30, 0xff, 0xff, 0xff, 0xff, 0x01]))).toMatch(/more than four bytes/);
  });
});

describe('the embedded broker', () => {
  let db: Db;
  let broker: Broker;
  const refused: string[] = [];

  beforeAll(async () => {
    db = value(await openDatabase(':memory:'));
    broker = value(
      await startBroker({
        db,
        host: '127.0.0.1',
        port: 0,
        clock: systemClock,
        controllerPassword: 'secret',
        viewerPassword: null,
        onRefused: (_id, message) => refused.push(message),
      }),
    );
    broker.admit();
  });

  afterAll(async () => {
    await broker.close();
    await db.destroy();
  });

  /** Sends the bytes; answers what came until the broker closed. */
  async function exchange(bytes: Uint8Array): Promise<Buffer> {
    const socket = connect({ port: broker.port, host: '127.0.0.1' });
    const got: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => got.push(chunk)).on('error', () => undefined);
    socket.write(bytes);
    await once(socket, 'close');
    return Buffer.concat(got);
  }
  const connectPacket = (id: string, password: string, clean = true) =>
    mqttPacket.generate({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 4,
      clientId: id,
      clean,
      keepalive: 60,
      username: id,
      password: Buffer.from(password),
    });

  it('closes the socket on a header that announces 256 MiB, before any body', async () => {
    await exchange(Uint8Array.from([0x30, 0xff, 0xff, 0xff, 0x7f]));
    expect(refused.some((message) => message.includes('above the limit of 262144'))).toBe(true);
  });

  it('refuses a wrong password, an id that is not the user name, and a stored session', async () => {
    const returnCode = (bytes: Buffer) => bytes[3];
    expect(returnCode(await exchange(connectPacket('ctl-a', 'wrong')))).toBe(4);
    expect(returnCode(await exchange(connectPacket('dev-unknown', 'x')))).toBe(4);
    expect((await exchange(connectPacket('ctl-a', 'secret', false))).length).toBe(0);
  });

  it('outlives random bytes and goes on serving', async () => {
    for (let seed = 0; seed < 40; seed++) {
      const socket = connect({ port: broker.port, host: '127.0.0.1' });
      socket.on('error', () => undefined).resume();
      const noise = Uint8Array.from({ length: 64 }, (_, i) => (Math.imul(seed * 64 + i + 1, 2654435761) >>> 13) & 0xff);
      socket.end(Buffer.concat([seed % 2 === 0 ? connectPacket('ctl-a', 'secret') : Buffer.alloc(0), noise]));
      await once(socket, 'close');
    }
    const socket = connect({ port: broker.port, host: '127.0.0.1' });
    socket.write(connectPacket('ctl-b', 'secret'));
    const [connack] = (await once(socket, 'data')) as [Buffer];
    expect([...connack]).toEqual([0x20, 2, 0, 0]);
    socket.destroy();
  });
});
