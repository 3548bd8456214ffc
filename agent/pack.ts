// `npm run pack:agent`: makes dist/ofa-agent-<version>.tgz, which a device installs with `npm install --ignore-scripts <file>`. TypeScript is
// bundled, since Node strips no types inside node_modules; only native addons stay dependencies.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const dist = join(root, 'dist');
const stage = join(dist, 'ofa-agent');
/** They load native code from their own folder. */
const NATIVE = ['onnxruntime-node', 'better-sqlite3'];
/** The WebAssembly build looks for these beside the file that it is bundled into. */
const WASM = ['ort-wasm-simd-threaded.wasm', 'ort-wasm-simd-threaded.mjs'];

/** Readable by any Node that has modules, so that an old one says what is wrong instead of a syntax error. */
const BIN = `#!/usr/bin/env node
// Starts the agent, or says which Node it needs.
const [major, minor] = process.versions.node.split('.').map(Number);
if (major > 22 || (major === 22 && minor >= 18)) {
  import('../lib/cli.js');
} else {
  process.stderr.write('ofa-agent needs Node >= 22.18; this is ' + process.versions.node + '. Install a newer Node (https://nodejs.org).\\n');
  process.exitCode = 1;
}
`;

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly description: string;
  readonly license: string;
  readonly dependencies: Readonly<Record<string, string>>;
}

async function bundle(): Promise<void> {
  await build({
    entryPoints: Object.fromEntries(
      ['cli', 'runner', 'serve-worker', 'meter-worker', 'load-worker', 'throttle-worker', 'restore-worker'].map((name) => [
        name,
        join(here, 'node', `${name}.ts`),
      ]),
    ),
    outdir: join(stage, 'lib'),
    bundle: true,
    splitting: true,
    platform: 'node',
    format: 'esm',
    target: 'node22',
    external: NATIVE,
    legalComments: 'external',
    // CommonJS packages inside the bundle look for Node's modules by require.
    banner: { js: "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);" },
    logLevel: 'warning',
  });
  const { resolve } = createRequire(import.meta.url);
  for (const file of WASM) copyFileSync(resolve(`onnxruntime-web/${file}`), join(stage, 'lib', file));
}

function describe(manifest: Manifest): void {
  const { name, version, description, license } = manifest;
  const dependencies = Object.fromEntries(NATIVE.map((native) => [native, manifest.dependencies[native]]));
  const packed = {
    name,
    version,
    description,
    license,
    type: 'module',
    engines: { node: '>=22.18' },
    bin: { 'ofa-agent': 'bin/ofa-agent.js' },
    dependencies,
  };
  writeFileSync(join(stage, 'package.json'), `${JSON.stringify(packed, null, 2)}\n`);
  mkdirSync(join(stage, 'bin'));
  writeFileSync(join(stage, 'bin', 'ofa-agent.js'), BIN, { mode: 0o755 });
  copyFileSync(join(root, 'LICENSE'), join(stage, 'LICENSE'));
}

const manifest = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8')) as Manifest;
rmSync(stage, { recursive: true, force: true });
mkdirSync(stage, { recursive: true });
await bundle();
describe(manifest);
execFileSync('npm', ['pack', '--silent', '--pack-destination', dist], { cwd: stage, stdio: ['ignore', 'ignore', 'inherit'] });
process.stdout.write(`${join('dist', `ofa-agent-${manifest.version}.tgz`)}\n`);
