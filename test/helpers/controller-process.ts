// The controller's fleet with its broker and database as a process of its own, so that it can be killed. Calls come and go by IPC.
import { join } from 'node:path';
import { openBlobStore } from '../../shared/node/blob-store.ts';
import type { Fleet } from '../../controller/fleet/fleet.ts';
import { startFleet } from '../../controller/fleet/start-fleet.ts';
import { openDatabase } from '../../controller/store/database.ts';
import { value } from './outcome.ts';

/** Methods that can be called from outside. */
export type Remote = Pick<Fleet, 'createToken' | 'devices' | 'enqueue' | 'jobEnd' | 'cancel'>;

export interface Call {
  readonly id: number;
  readonly method: keyof Remote;
  readonly args: readonly unknown[];
}

if (process.argv[2] !== undefined) {
  const { dir, port } = JSON.parse(process.argv[2]) as { dir: string; port: number };
  const db = value(await openDatabase(join(dir, 'controller.db')));
  const log = (line: string) => process.stderr.write(`controller: ${line}\n`);
  const fleet = value(await startFleet({ db, blobs: openBlobStore(join(dir, 'blobs')), host: '127.0.0.1', port, log }));
  fleet.onJobEnd((end) => process.send?.({ event: 'end', end }));
  process.on('message', ({ id, method, args }: Call) => {
    const remote = fleet as unknown as Readonly<Record<string, (...args: readonly unknown[]) => Promise<unknown>>>;
    remote[method]?.(...args).then(
      (result) => process.send?.({ id, result }),
      (error: unknown) => process.send?.({ id, error: String(error) }),
    );
  });
  process.on('disconnect', () => process.exit(0));
  process.send?.({ event: 'ready', brokerUrl: fleet.brokerUrl });
}
