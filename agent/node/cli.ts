// The `ofa-agent` program: measure a model here, say what this device can measure, join a fleet. Exit codes: 0 done, 1 failed, 2 wrong use.
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Command, CommanderError, Option } from 'commander';
import type { Plan } from '@ofa-fleet/shared/measurement.ts';
import { defaultHostLockPath } from '@ofa-fleet/shared/node/host-lock.ts';
import { LEAST_LEVELS } from '../calibration.ts';
import { runCalibrate } from './cli-calibrate.ts';
import { runCompare } from './cli-compare.ts';
import { runDoctor } from './cli-doctor.ts';
import { runMeasure } from './cli-measure.ts';
import { runMeters } from './cli-meters.ts';
import {
  LEAST_HOLD_MS,
  parseCount,
  parseDuration,
  parseHold,
  parseMode,
  parseShare,
  parseTemperature,
  parseThreads,
} from './cli-values.ts';
import { HOST_ROOTS } from './host-files.ts';
import { AGENT_VERSION } from './machine.ts';
import { meterHost } from './meters/discover.ts';
import type { PlugAddress } from './meters/meter.ts';
import { parsePlug } from './plug-option.ts';
import { RUNTIME_NAMES, type RuntimeName } from './runtime/runtimes.ts';
import { journalPlace, recoverSettings } from './steady-settings.ts';
import { DEFAULT_MAX_TEMPERATURE_C } from './temperature.ts';

const USAGE_ERROR = 2;
const DEFAULT_CAP_MS = 30_000;
const SUSTAINED_CAP_MS = 600_000;
const DEFAULT_STATE_DIR = join(homedir(), '.ofa-agent');

const runtimeOption = () => new Option('--runtime <name>', 'what runs the model').choices([...RUNTIME_NAMES]).default('onnxruntime-node');
/** One plug. A message of commander's own would repeat what was typed, password and all. */
const plugOption = (program: Command, description: string) =>
  new Option('--plug <make:name@mqtt://host>', description).argParser((text, before?: PlugAddress) => {
    if (before !== undefined)
      return program.error('error: --plug is given twice; a device is measured by one plug', { exitCode: USAGE_ERROR });
    const plug = parsePlug(text);
    return plug.ok ? plug.value : program.error(`error: --plug: ${plug.message}`, { exitCode: USAGE_ERROR });
  });
const PLUG_MEANING =
  'smart plug (tasmota, shelly, zigbee2mqtt) that feeds this device and nothing else, used where it has no sensor of its own';
const example = (text: string) => `\nExample:\n  ${text}\n`;

const threadsOption = () => new Option('--threads <n>', 'threads within an operator').argParser(parseThreads).default(1);
const processesOption = (most: number) =>
  new Option('--processes <k>', 'fresh processes, each a new draw of the memory layout').argParser(parseCount(1, 50)).default(most);

function addMeasure(program: Command, signal: AbortSignal, done: (code: number) => void): void {
  program
    .command('measure')
    .description('measure the latency (and the energy) of one ONNX model on this machine, in a process of its own')
    .argument('<model.onnx>', 'an ONNX file; external data lies beside it; a free batch dimension is taken as 1')
    .addOption(runtimeOption())
    .option(
      '--mode <mode>',
      'back-to-back, gap:MS (idle before each run, as an application has it), or sustained (5 to 10 minutes)',
      parseMode,
      'back-to-back',
    )
    .addOption(threadsOption())
    .option('--precision <share>', 'half-width of the 95 % interval of the median that is enough', parseShare, 0.02)
    .option('--energy-precision <share>', 'measure joules too, to this half-width (takes about 15 s more)', parseShare)
    .addOption(plugOption(program, PLUG_MEANING))
    .option('--state <dir>', 'where ofa-agent calibrate keeps its lines', DEFAULT_STATE_DIR)
    .addOption(processesOption(1))
    .option('--cap <time>', 'longest warm-up plus timed runs (30s unless given, 10min where sustained)', parseDuration)
    .option('--profile [file.svg]', 'time by operator too, as a table and, where a file is named, as a chart')
    .option('--json', 'print the whole record as JSON', false)
    .option('--samples <file>', 'write the time of each run as CSV (the first 2,000)')
    .addHelpText('after', example('ofa-agent measure mobilenet.onnx --threads 2 --precision 1% --processes 5 --samples runs.csv'))
    .action(
      async (
        model: string,
        options: {
          runtime: RuntimeName;
          mode: Plan['mode'];
          threads: number;
          precision: number;
          energyPrecision?: number;
          plug?: PlugAddress;
          state: string;
          processes: number;
          cap?: number;
          profile?: string | true;
          json: boolean;
          samples?: string;
        },
      ) => {
        const { energyPrecision = null, samples = null, cap, profile, plug, state, ...rest } = options;
        const capMs = cap ?? (options.mode === 'sustained' ? SUSTAINED_CAP_MS : DEFAULT_CAP_MS);
        const chart = profile === undefined ? null : profile === true ? '-' : profile;
        const asked = {
          ...rest,
          energyPrecision,
          samples,
          capMs,
          profile: chart,
          plugs: plug === undefined ? [] : [plug],
          stateDir: state,
          hostLockPath: defaultHostLockPath(),
        };
        done(await runMeasure(model, asked, signal));
      },
    );
}

function addCompare(program: Command, signal: AbortSignal, done: (code: number) => void): void {
  program
    .command('compare')
    .description('say which of some ONNX models is faster on this machine, and with what certainty')
    .argument('<model.onnx>', 'one model')
    .argument('<others.onnx...>', 'those to compare it with')
    .addOption(runtimeOption())
    .addOption(threadsOption())
    .addOption(processesOption(5))
    .option('--cap <time>', 'time for all of it', parseDuration, DEFAULT_CAP_MS)
    .option('--json', 'print the result as JSON', false)
    .addHelpText('after', example('ofa-agent compare a.onnx b.onnx --threads 2 --cap 1min'))
    .action(
      async (
        first: string,
        others: readonly string[],
        options: { runtime: RuntimeName; threads: number; processes: number; cap: number; json: boolean },
      ) => {
        const { cap: capMs, ...rest } = options;
        done(await runCompare([first, ...others], { ...rest, capMs, hostLockPath: defaultHostLockPath() }, signal));
      },
    );
}

function addMeters(program: Command, done: (code: number) => void): void {
  program
    .command('meters')
    .description('say which energy sensors this device has, how fast they are, and why the others are not used')
    .option('--sysfs <root>', 'where the kernel shows its devices', HOST_ROOTS.sysfsRoot)
    .addOption(plugOption(program, PLUG_MEANING))
    .option('--gpu', 'as for models that run on the graphics card', false)
    .addHelpText('after', example('ofa-agent meters\n  ofa-agent meters --plug tasmota:desk-plug@mqtt://192.168.1.10'))
    .action(async ({ sysfs, plug, gpu }: { sysfs: string; plug?: PlugAddress; gpu: boolean }) =>
      done(await runMeters(meterHost(sysfs, plug === undefined ? [] : [plug], gpu ? 'gpu' : 'cpu'))),
    );
}

function addCalibrate(program: Command, signal: AbortSignal, done: (code: number) => void): void {
  program
    .command('calibrate')
    .description("hold this device's own sensor against a smart plug, under several loads, and keep the line between the two")
    .addOption(
      plugOption(program, 'smart plug (tasmota, shelly, zigbee2mqtt) that feeds this device and nothing else').makeOptionMandatory(),
    )
    .option('--levels <n>', 'loads, from none to all cores busy', parseCount(LEAST_LEVELS, 10), LEAST_LEVELS)
    .option('--hold <time>', 'how long each is held (5min unless given)', parseHold, LEAST_HOLD_MS)
    .option('--state <dir>', 'where the line is kept', DEFAULT_STATE_DIR)
    .option('--sysfs <root>', 'where the kernel shows its devices', HOST_ROOTS.sysfsRoot)
    .addHelpText('after', example('ofa-agent calibrate --plug shelly:shellyplugsg3-a1b2c3@mqtt://me:secret@192.168.1.10'))
    .action(
      async ({
        hold: holdMs,
        state: stateDir,
        sysfs: sysfsRoot,
        ...rest
      }: {
        plug: PlugAddress;
        levels: number;
        hold: number;
        state: string;
        sysfs: string;
      }) => done(await runCalibrate({ ...rest, holdMs, stateDir, sysfsRoot, hostLockPath: defaultHostLockPath() }, signal)),
    );
}

function addDoctor(program: Command, signal: AbortSignal, done: (code: number) => void): void {
  program
    .command('doctor')
    .description('say what makes numbers on this machine unreliable, and the command that mends it; changes nothing by itself')
    .argument('[command...]', 'with --apply: what to run while the settings are held (after --)')
    .option('--apply', 'hold the clock steady until the command, or this program, ends; then give all back', false)
    .option('--threads <n>', 'threads that you mean to measure with', parseThreads, 1)
    .addOption(runtimeOption())
    .option('--sysfs <root>', 'where the kernel shows its devices', HOST_ROOTS.sysfsRoot)
    .option('--proc <root>', 'where the kernel shows its processes (with another --sysfs: none unless given)')
    .option('--state <dir>', 'where it notes what --apply changed, so that a crash is undone', DEFAULT_STATE_DIR)
    .option('--json', 'print the findings as JSON', false)
    .addHelpText('after', example('ofa-agent doctor\n  sudo ofa-agent doctor --apply -- ofa-agent measure mobilenet.onnx'))
    .action(
      async (
        command: readonly string[],
        options: {
          apply: boolean;
          threads: number;
          runtime: RuntimeName;
          sysfs: string;
          proc?: string;
          state: string;
          json: boolean;
        },
      ) => {
        const { sysfs: sysfsRoot, proc: procRoot = null, state: stateDir, ...rest } = options;
        done(await runDoctor({ ...rest, sysfsRoot, procRoot, stateDir, command }, signal));
      },
    );
}

function addJoin(program: Command, done: (code: number) => void): void {
  program
    .command('join')
    .description('join a fleet and work for it until stopped')
    .argument('<url>', "the controller's broker, e.g. mqtt://192.168.1.10:1883")
    .argument('<token>', 'single-use token that `ofa-fleet serve` prints')
    .option('--state <dir>', 'where this device keeps its credentials, models and results', DEFAULT_STATE_DIR)
    .addOption(runtimeOption())
    .option('--class <name>', 'device class: devices of one class are taken to measure alike (derived from CPU and runtime if not given)')
    .option('--name <name>', 'name for people')
    .addOption(plugOption(program, PLUG_MEANING))
    .option(
      '--max-temperature <celsius>',
      'take no work while the hottest thermal zone is above it',
      parseTemperature,
      DEFAULT_MAX_TEMPERATURE_C,
    )
    .option('--with-parent', 'stop when the process that started this one goes', false)
    .addHelpText('after', example('ofa-agent join mqtt://192.168.1.10:1883 TOKEN --name kitchen-pi --state /var/lib/ofa-agent'))
    .action(
      async (
        url: string,
        token: string,
        options: {
          state: string;
          runtime: RuntimeName;
          class?: string;
          name?: string;
          plug?: PlugAddress;
          maxTemperature: number;
          withParent: boolean;
        },
      ) => {
        // Loaded on demand: measuring needs no MQTT.
        const { runAgent } = await import('./main.ts');
        done(
          await runAgent({
            url,
            token,
            stateDir: options.state,
            runtime: options.runtime,
            deviceClass: options.class ?? null,
            name: options.name ?? null,
            plugs: options.plug === undefined ? [] : [options.plug],
            maxTemperatureC: options.maxTemperature,
            withParent: options.withParent,
            hostLockPath: defaultHostLockPath(),
          }),
        );
      },
    );
}

async function main(argv: readonly string[]): Promise<number> {
  let code = 0;
  const done = (result: number) => (code = result);
  const stop = new AbortController();
  const program = new Command('ofa-agent')
    .description('Runs on a device: measures the models it is given, serves the one deployed to it.')
    .version(AGENT_VERSION)
    .exitOverride()
    .showHelpAfterError('(--help shows the options and an example)')
    .addHelpText('after', example('ofa-agent measure model.onnx'));
  addMeasure(program, stop.signal, done);
  addCompare(program, stop.signal, done);
  addMeters(program, done);
  addCalibrate(program, stop.signal, done);
  addDoctor(program, stop.signal, done);
  addJoin(program, done);
  // `join` handles its own end; here Ctrl-C cancels a measurement, whose process is killed before this one ends.
  const onSignal = () => stop.abort();
  process.once('SIGINT', onSignal);
  process.once('SIGTERM', onSignal);
  // What a doctor that was killed left behind would be in the numbers.
  for (const line of await recoverSettings(journalPlace(DEFAULT_STATE_DIR, HOST_ROOTS.sysfsRoot))) process.stderr.write(`${line}\n`);
  try {
    await program.parseAsync(argv, { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE_ERROR;
    if (stop.signal.aborted) {
      process.stderr.write('Stopped.\n');
      return 1;
    }
    throw error;
  }
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException;
  const isFull = code === 'ENOSPC' || code === 'SQLITE_FULL';
  const next = isFull ? 'The disk is full: free some space and try again.' : 'If this repeats, it is a bug: please report it.';
  process.stderr.write(`${message}\n${next}\n`);
  process.exitCode = 1;
}
