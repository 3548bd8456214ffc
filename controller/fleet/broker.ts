// The embedded broker: aedes over TCP, MQTT 3.1.1, memory persistence (nothing depends on what a broker keeps), with the limits that it lacks:
// packet size, credentials, access by role, publish rate. The controller is one of its clients.
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { Aedes, type AuthenticateError, type Client } from 'aedes';
import type { Clock } from '@ofa-fleet/shared/clock.ts';
import { CLAIM_PREFIX, CONTROLLER_PREFIX, ID_PATTERN, VIEWER_PREFIX } from '@ofa-fleet/shared/ids.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { MAX_PACKET_BYTES } from '@ofa-fleet/shared/protocol.ts';
import { parseTopic, TOPIC_LEVELS } from '@ofa-fleet/shared/topics.ts';
import type { Db } from '../store/database.ts';
import { findClaim, findDevice } from '../store/devices.ts';
import { mayPublish, maySubscribe, type Role } from './acl.ts';
import { createSecretCheck } from './credentials.ts';
import { createBucket, type Bucket } from './rate-limit.ts';
import { guardSocket } from './stream-guard.ts';

/** Control messages of one device; blocks asked for and answers to inferences are bounded by their windows and have a bucket of their own. */
const CONTROL_RATE = { perSecond: 20, burst: 100 };
const DATA_RATE = { perSecond: 2000, burst: 2000 };
const DATA_KINDS: ReadonlySet<string> = new Set(['art-req', 'inferred']);
/** A subscriber that reads nothing for so long is closed: one frozen client must not hold up the others. */
const DRAIN_TIMEOUT_MS = 30_000;
const CONNECT_TIMEOUT_MS = 10_000;
const BAD_CREDENTIALS = 4;
const NOT_AUTHORISED = 5;

export interface BrokerSettings {
  readonly db: Db;
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly clock: Clock;
  /** Known to this process alone; any id with the controller's prefix may use it. */
  readonly controllerPassword: string;
  /** Lets ids with the viewer's prefix follow presence and deployments; null: no viewers. */
  readonly viewerPassword: string | null;
  /** A client did what its role does not allow, or sent a packet too large. */
  readonly onRefused: (clientId: string, message: string) => void;
}

export interface Broker {
  readonly port: number;
  /** Lets everybody in: until then only the controller is, so that nobody speaks before it listens. */
  admit(): void;
  /** Closes the connection of this client, if it has one. */
  disconnect(clientId: string): void;
  close(): Promise<void>;
}

interface Session {
  readonly role: Role;
  readonly control: Bucket;
  readonly data: Bucket;
}

/** Listening, or PORT_IN_USE. */
export async function startBroker(settings: BrokerSettings): Promise<Outcome<Broker>> {
  const { db, clock, onRefused } = settings;
  const isRight = createSecretCheck();
  const sessions = new WeakMap<Client, Session>();
  let admit = (): void => undefined;
  const admitted = new Promise<void>((resolve) => (admit = resolve));

  async function roleOf(id: string, password: string): Promise<Role | null> {
    if (!ID_PATTERN.test(id)) return null;
    if (id.startsWith(CONTROLLER_PREFIX)) return password === settings.controllerPassword ? { kind: 'controller' } : null;
    await admitted;
    if (id.startsWith(VIEWER_PREFIX)) return password === settings.viewerPassword ? { kind: 'viewer' } : null;
    if (id.startsWith(CLAIM_PREFIX)) {
      // a claim that is used up or too old may still ask, and is told so in words
      const claim = await findClaim(db, id);
      return claim !== null && (await isRight(id, password, claim.secret_hash)) ? { kind: 'claim', claimId: id } : null;
    }
    const device = await findDevice(db, id);
    if (device === null || !(await isRight(id, password, device.password_hash))) return null;
    return { kind: 'device', address: { fleet: device.fleet, shard: device.shard, device: id } };
  }

  const aedes = await Aedes.createBroker({
    maxTopicLevels: TOPIC_LEVELS + 1,
    drainTimeout: DRAIN_TIMEOUT_MS,
    connectTimeout: CONNECT_TIMEOUT_MS,
    preConnect(_client, packet, done) {
      // stored sessions would queue without bound for clients that never return, and nobody needs them
      if (packet.clean === true) done(null, true);
      else done(new Error('only clean sessions are taken'), false);
    },
    authenticate(client, username, password, done) {
      if (username === undefined || username !== client.id || password === undefined) {
        done(refusal(BAD_CREDENTIALS), false);
        return;
      }
      roleOf(username, password.toString()).then(
        (role) => {
          if (role === null) {
            done(refusal(BAD_CREDENTIALS), false);
            return;
          }
          const bucket = ({ perSecond, burst }: typeof CONTROL_RATE) => createBucket(perSecond, burst);
          sessions.set(client, { role, control: bucket(CONTROL_RATE), data: bucket(DATA_RATE) });
          done(null, true);
        },
        () => done(refusal(NOT_AUTHORISED), false),
      );
    },
    authorizePublish(client, packet, done) {
      const session = client === null ? undefined : sessions.get(client);
      const allowed = session !== undefined && mayPublish(session.role, { topic: packet.topic, qos: packet.qos, retain: packet.retain });
      if (!allowed) {
        onRefused(
          client?.id ?? '',
          `may not publish ${packet.topic.slice(0, 256)} (QoS ${packet.qos}${packet.retain ? ', retained' : ''})`,
        );
        done(new Error('not authorised'));
        return;
      }
      if (session.role.kind === 'controller') {
        done();
        return;
      }
      const bucket = DATA_KINDS.has(parseTopic(packet.topic)?.kind ?? '') ? session.data : session.control;
      const waitMs = bucket.take(clock.monotonicMs());
      if (waitMs === 0) done();
      else void clock.sleep(waitMs).then(() => done());
    },
    authorizeSubscribe(client, subscription, done) {
      const session = sessions.get(client);
      if (session !== undefined && maySubscribe(session.role, subscription.topic)) {
        done(null, subscription);
        return;
      }
      onRefused(client.id, `may not subscribe ${subscription.topic.slice(0, 256)}`);
      done(null, null);
    },
  });
  // what clients do wrong ends their connection, never this process
  aedes.on('clientError', () => undefined);
  aedes.on('connectionError', () => undefined);

  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    let client: Client | null = null;
    const guarded = guardSocket(socket, MAX_PACKET_BYTES, (why) => onRefused(client?.id ?? '', why));
    client = aedes.handle(guarded);
  });
  const listening = await listen(server, settings.host, settings.port);
  if (!listening.ok) {
    await new Promise<void>((resolve) => aedes.close(resolve));
    return listening;
  }
  const clients = (aedes as unknown as { readonly clients: Readonly<Record<string, Client>> }).clients;
  return ok({
    port: listening.value,
    admit,
    disconnect: (clientId) => clients[clientId]?.close(),
    async close() {
      await new Promise<void>((resolve) => aedes.close(resolve));
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  });
}

function refusal(returnCode: number): AuthenticateError {
  const error: unknown = Object.assign(new Error('refused'), { returnCode });
  return error as AuthenticateError;
}

function listen(server: Server, host: string, port: number): Promise<Outcome<number>> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') {
        resolve(
          failed('PORT_IN_USE', `port ${port} on ${host} is taken by another process; stop it or choose another port (0 takes a free one)`),
        );
      } else if (error.code === 'EACCES' || error.code === 'EADDRNOTAVAIL') {
        resolve(
          failed(
            'INVALID_INPUT',
            `cannot listen on ${host}:${port} (${error.code}); choose an address of this machine and a port above 1023`,
          ),
        );
      } else reject(error);
    });
    server.listen(port, host, () => resolve(ok((server.address() as AddressInfo).port)));
  });
}
