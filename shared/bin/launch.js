// Runs its arguments on a Node that strips TypeScript types (>= 22.18): on the Node that started it if that is new enough, else on
// the one that npm installed beside this project. Plain JavaScript, since an old Node must be able to read it. Every npm
// script and both programs start through it.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const NEEDED = [22, 18];

function isNewEnough(version) {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1]);
}

/** Path of a Node that is new enough, or null. npm 9 and 10 drop the `node` link of these packages, so it is resolved, not looked up on PATH. */
function findNode() {
  if (isNewEnough(process.versions.node)) return process.execPath;
  try {
    const manifest = createRequire(import.meta.url).resolve(`node-linux-${process.arch}/package.json`);
    return join(dirname(manifest), 'bin', 'node');
  } catch {
    return null;
  }
}

/** Runs `args` (a script and its arguments) and exits as it exits; signals are passed on. */
export function launch(args) {
  const node = findNode();
  if (node === null) {
    process.stderr.write(
      `OFA Fleet needs Node >= ${NEEDED.join('.')}; this is ${process.versions.node} (${process.platform} ${process.arch}). ` +
        'Install a newer Node (https://nodejs.org), or run `npm ci` again with optional packages on (npm config get omit).\n',
    );
    process.exit(1);
  }
  const child = spawn(node, args, { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    // A terminal sends Ctrl-C to the child by itself; forwarding serves `kill`. Either way the child decides how to end.
    process.on(signal, () => child.kill(signal));
  }
  child.on('error', (error) => {
    process.stderr.write(`Cannot start ${node}: ${error.message}\n`);
    process.exit(1);
  });
  child.on('exit', (code, signal) => process.exit(signal === null ? (code ?? 1) : 128 + (constants.signals[signal] ?? 0)));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) launch(process.argv.slice(2));
