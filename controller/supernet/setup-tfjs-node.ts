// Gives @tensorflow/tfjs-node its native addon, which `npm ci` leaves out because install scripts are off. Tries the package's own
// installer if its host answers, else builds the addon against the TensorFlow libraries inside PyPI's tensorflow-cpu wheel (linux x64).
// Run by `npm run setup:tfjs-node`; does nothing where the addon already loads; the next `npm ci` removes it again.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';

const WHEEL = {
  requirement: 'tensorflow-cpu==2.18.1',
  sha256: '357506565b05154b4b1fa5f94cd2b34c74d8a6ed64091385a71c990626321164',
};
const HEADERS = 'node-api-headers@1.9.0';
/** The package's own download host (its scripts/install.js). */
const OWN_HOST = 'https://storage.googleapis.com/';
const OWN_HOST_TIMEOUT_MS = 5_000;
const OWN_INSTALL_TIMEOUT_MS = 600_000;

/** Extracts only what the addon needs from the wheel (a zip of 1 GB unpacked): two libraries and the C headers. */
const UNZIP_PY = `
import sys, os, zipfile
wheel, target = sys.argv[1:]
headers = ('tensorflow/c/', 'tensorflow/tsl/', 'tensorflow/core/platform/', 'tsl/', 'xla/tsl/')
libraries = ('libtensorflow_cc.so.2', 'libtensorflow_framework.so.2')
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        path = None
        if name.startswith('tensorflow/include/') and name[19:].startswith(headers): path = 'include/' + name[19:]
        elif name.startswith('tensorflow/') and name[11:] in libraries: path = 'lib/' + name[11:]
        if path is None or name.endswith('/'): continue
        file = os.path.join(target, path)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with archive.open(name) as source, open(file, 'wb') as sink:
            while chunk := source.read(1 << 20): sink.write(chunk)
`;

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Loads the addon in a process of its own, so that a crash is an answer and not the end of this script. */
function addonLoads(packageDir: string): boolean {
  const code = `require('node:util').isNullOrUndefined ??= (v) => v == null; require(${JSON.stringify(packageDir)}).ready().then(() => process.exit(0));`;
  return spawnSync(process.execPath, ['-e', code], { stdio: 'ignore', env: { ...process.env, TF_CPP_MIN_LOG_LEVEL: '2' } }).status === 0;
}

async function hostAnswers(url: string): Promise<boolean> {
  try {
    await fetch(url, { method: 'HEAD', signal: AbortSignal.timeout(OWN_HOST_TIMEOUT_MS) });
    return true;
  } catch {
    return false;
  }
}

async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex');
}

function toolMissing(tool: string): boolean {
  return spawnSync(tool, ['--version'], { stdio: 'ignore' }).status !== 0;
}

async function buildFromWheel(packageDir: string): Promise<void> {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Error(`there is no tensorflow-cpu wheel with these libraries for ${process.platform} ${process.arch}`);
  }
  const missing = ['python3', 'g++', 'npm'].filter(toolMissing);
  if (missing.length > 0) throw new Error(`building needs ${missing.join(', ')}; on Debian: apt-get install g++ python3 python3-pip npm`);

  const work = mkdtempSync(join(tmpdir(), 'tfjs-node-'));
  try {
    say(`Fetching ${WHEEL.requirement} (230 MB) from PyPI ...`);
    const target = '--implementation cp --python-version 3.10 --abi cp310 --platform manylinux2014_x86_64'.split(' ');
    const pip = ['-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-deps', '--only-binary=:all:', ...target];
    execFileSync('python3', [...pip, '--dest', work, WHEEL.requirement], { stdio: ['ignore', 'inherit', 'inherit'] });
    const wheel = readdirSync(work).find((name) => name.endsWith('.whl'));
    if (wheel === undefined) throw new Error(`pip left no wheel of ${WHEEL.requirement}`);
    const digest = await sha256(join(work, wheel));
    if (digest !== WHEEL.sha256) throw new Error(`${wheel} has sha256 ${digest}, expected ${WHEEL.sha256}`);

    say('Unpacking libraries and headers ...');
    const deps = join(packageDir, 'deps');
    rmSync(deps, { recursive: true, force: true });
    execFileSync('python3', ['-c', UNZIP_PY, join(work, wheel), deps]);

    execFileSync('npm', ['pack', '--silent', HEADERS, '--pack-destination', work], { stdio: ['ignore', 'ignore', 'inherit'] });
    const headers = readdirSync(work).find((name) => name.endsWith('.tgz'));
    if (headers === undefined) throw new Error(`npm left no tarball of ${HEADERS}`);
    execFileSync('tar', ['-xzf', join(work, headers), '-C', work]);

    say('Compiling the addon ...');
    const addonDir = join(packageDir, 'lib', 'napi-v8');
    mkdirSync(addonDir, { recursive: true });
    const flags = [
      '-std=c++17',
      '-O2',
      '-shared',
      '-fPIC',
      '-w',
      '-DNAPI_VERSION=8',
      `-I${join(work, 'package/include')}`,
      `-I${deps}/include`,
      '-I.',
    ];
    const link = [`-L${deps}/lib`, '-l:libtensorflow_cc.so.2', '-l:libtensorflow_framework.so.2', '-Wl,-rpath,$ORIGIN/../../deps/lib'];
    const sources = ['binding/tfjs_backend.cc', 'binding/tfjs_binding.cc'];
    execFileSync('g++', [...flags, ...sources, '-o', join(addonDir, 'tfjs_binding.node'), ...link], {
      cwd: packageDir,
      stdio: ['ignore', 'inherit', 'inherit'],
    });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function setup(): Promise<void> {
  let packageDir: string;
  try {
    packageDir = dirname(createRequire(import.meta.url).resolve('@tensorflow/tfjs-node/package.json'));
  } catch {
    throw new Error('@tensorflow/tfjs-node is not installed; run `npm ci` with optional packages on (npm config get omit)');
  }
  if (existsSync(join(packageDir, 'lib')) && addonLoads(packageDir)) {
    say('tfjs-node: the native addon is already there and loads.');
    return;
  }
  if (await hostAnswers(OWN_HOST)) {
    say(`Trying the package's own installer (${OWN_HOST}) ...`);
    spawnSync(process.execPath, ['scripts/install.js'], { cwd: packageDir, stdio: 'ignore', timeout: OWN_INSTALL_TIMEOUT_MS });
    if (addonLoads(packageDir)) {
      say('tfjs-node: native addon installed by the package itself.');
      return;
    }
    say('That did not give a loadable addon.');
  } else {
    say(`${OWN_HOST} does not answer within ${OWN_HOST_TIMEOUT_MS / 1000} s; building from PyPI's wheel instead.`);
  }
  await buildFromWheel(packageDir);
  if (!addonLoads(packageDir)) throw new Error(`the addon was built but does not load; see: node -e "require('${packageDir}')"`);
  say('tfjs-node: native addon built and loading.');
}

try {
  await setup();
} catch (error) {
  process.stderr.write(
    `tfjs-node has no native addon: ${error instanceof Error ? error.message : String(error)}.\n` +
      'Everything works without it on the WebAssembly backend, but training then falls back to plain JavaScript, which is slow.\n',
  );
  process.exit(1);
}
