// The `ofa-fleet` program. Exit codes: 0 done, 1 failed, 2 wrong use. Each command's code is loaded when it is called, not before.
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Command, CommanderError, Option } from 'commander';
import { EXIT, withContext, type Context } from './context.ts';
import type { DemoOptions } from './demo-run.ts';
import type { DeployOptions } from './deploy.ts';
import type { ExportOptions } from './export.ts';
import type { FleetOptions } from './fleet.ts';
import type { ImportOptions } from './import.ts';
import { byteScale, example, numberList, positiveNumber, share, stateOption, wholeNumber } from './options.ts';
import type { ReportOptions } from './report.ts';
import type { SearchOptions } from './search.ts';
import type { ServeOptions } from './serve.ts';
import { addTraining } from './training-commands.ts';

type Run = (action: (context: Context) => Promise<number>) => Promise<void>;

const SHIPPED = fileURLToPath(new URL('../assets/fashion-tiny.safetensors', import.meta.url));
/** Nets of this size gain nothing from more. */
const DEFAULT_THREADS = Math.min(4, availableParallelism());

/** Subnets out of a supernet, and supernets from and to others' programs. */
function addExchange(program: Command, run: Run): void {
  program
    .command('export')
    .description('write one subnet of a supernet as ONNX, calibrated and checked')
    .argument('<checkpoint>', 'a supernet that `ofa-fleet train` or `ofa-fleet import` made')
    .requiredOption(
      '--subnet <which>',
      '`largest`, `smallest`, or a JSON file: {"ks": […], "e": […], "d": […]}, or with resolution and stages',
    )
    .requiredOption('--out <dir>', 'a new folder')
    .option('--resolution <side>', "input side (default: the file's, or else the largest of the space)", wholeNumber(1, 4096))
    .option('--data <dir>', 'IDX files to calibrate with (default: the images that ship)')
    .option(
      '--calibration <file>',
      'training images to calibrate with as .npy: [N, C, H, W] of float32, or of uint8; the top left square is used',
    )
    .option('--calibration-scale <m,s>', 'a uint8 u becomes (u - m) / s (default: the mean and std of the space)', byteScale)
    .option(
      '--calibration-batch <n>',
      'images whose statistics are taken together (default: 32 of a .npy file, else 50)',
      wholeNumber(1, 100_000),
    )
    .addOption(
      new Option('--statistics <which>', 'of the batch norms; `stored` ones are near chance')
        .choices(['calibrated', 'stored'])
        .default('calibrated'),
    )
    .option('--sort', 'sort channels by importance first, as training does before widths shrink', false)
    .addHelpText(
      'after',
      example(
        'ofa-fleet export controller/assets/fashion-tiny.safetensors --subnet largest --out out/largest',
        'ofa-fleet export supernet.safetensors --subnet s.json --resolution 192 --calibration images.npy --out out/s',
      ),
    )
    .action((checkpoint: string, options: ExportOptions) =>
      run(async (context) => (await import('./export.ts')).exportSubnet(checkpoint, options, context)),
    );

  program
    .command('import')
    .description("take over a supernet that Once-For-All's or OFAv2's PyTorch code trained, e.g. on GPUs; nothing in the file is executed")
    .argument('<file>', 'a .pth file of torch.save: a state dict, or a training checkpoint with one')
    .requiredOption('--out <file>', 'the supernet, as safetensors')
    .option('--name <name>', "of its search space (default: the file's)")
    .option('--resolutions <list>', 'that it was trained at, ascending, e.g. 128,160,192,224', numberList)
    .option('--mean <list>', "of pixels in [0, 1], one a channel (default: ImageNet's)", numberList)
    .option('--std <list>', "of pixels in [0, 1], one a channel (default: ImageNet's)", numberList)
    .option('--arch <name>', "one of OFAv2's eight, e.g. EE_D, where the keys leave it open")
    .option('--space <which>', 'preset or JSON file of its space (default: what the shapes of its tensors say)')
    .addHelpText('after', example('ofa-fleet import ofa_mbv3_d234_e346_k357_w1.0 --out supernet.safetensors'))
    .action((file: string, options: ImportOptions) =>
      run(async (context) => (await import('./import.ts')).importSupernet(file, options, context)),
    );

  program
    .command('export-ofa')
    .description("write a supernet in the keys and layouts of Once-For-All's PyTorch code, for torch.load")
    .argument('<checkpoint>', 'a supernet that `ofa-fleet train` or `ofa-fleet import` made')
    .requiredOption('--out <file>', 'the .pth file')
    .addHelpText('after', example('ofa-fleet export-ofa supernet.safetensors --out supernet.pth'))
    .action((checkpoint: string, options: { readonly out: string }) =>
      run(async (context) => (await import('./import.ts')).exportOfa(checkpoint, options, context)),
    );
}

function addFleet(program: Command, run: Run): void {
  program
    .command('serve')
    .description('run the controller: its broker, its HTTP side, and the searches that are asked of it')
    .addOption(stateOption())
    .option('--checkpoint <file>', 'the supernet', SHIPPED)
    .option('--data <dir>', 'IDX files for calibration, validation and test (default: the images that ship)')
    .option('--validation-images <n>', 'look at the first so many only, which is faster (default: all)', wholeNumber(1, 10_000_000))
    .option('--threads <n>', "of the controller's own evaluations", wholeNumber(1, 64), DEFAULT_THREADS)
    .option('--host <address>', 'where broker and HTTP listen', '127.0.0.1')
    .option('--mqtt-port <n>', 'of the broker; 0: any free one', wholeNumber(0, 65535), 1883)
    .option('--http-port <n>', 'of the HTTP side; 0: any free one', wholeNumber(0, 65535), 8080)
    .option('--insecure', 'allow an address that other machines reach, although nothing is encrypted yet', false)
    .addHelpText('after', example('ofa-fleet serve', 'ofa-fleet serve --host 192.168.1.10 --insecure'))
    .action((options: ServeOptions) => run(async (context) => (await import('./serve.ts')).serve(options, context)));

  program
    .command('search')
    .description('let the fleet measure subnets and search among them; follows until the end')
    .addOption(stateOption())
    .option('--subnets <n>', 'distinct subnets, each measured on every device class', wholeNumber(1, 100_000), 40)
    .option('--seed <n>', 'of the search', wholeNumber(0, Number.MAX_SAFE_INTEGER), 0)
    .addOption(new Option('--algorithm <name>', 'how to search').choices(['nsga2', 'random']).default('nsga2'))
    .option('--class <names...>', 'device classes to measure on (default: all that are online)')
    .option(
      '--budget <ms>',
      'latency that a chosen subnet has to keep (default: the median of what each class measured)',
      positiveNumber('ms'),
    )
    .option('--cap <seconds>', 'longest time', positiveNumber('seconds'))
    .option('--precision <share>', 'half-width of the interval of a median', share, 0.02)
    .option('--stop', 'end the search that runs', false)
    .addHelpText('after', example('ofa-fleet search --subnets 100 --budget 2.5'))
    .action((options: SearchOptions) => run(async (context) => (await import('./search.ts')).search(options, context)));

  program
    .command('fleet')
    .description('list the devices, or get a token for one more')
    .addOption(stateOption())
    .option('--token [name]', 'print the line with which a new device joins')
    .option('--json', 'print the list as JSON', false)
    .addHelpText('after', example('ofa-fleet fleet', 'ofa-fleet fleet --token kitchen-pi'))
    .action((options: FleetOptions) => run(async (context) => (await import('./fleet.ts')).fleet(options, context)));

  program
    .command('deploy')
    .description('make the best subnet within a latency budget what a device serves')
    .argument('<device>', 'name or id, as `ofa-fleet fleet` lists it')
    .addOption(stateOption())
    .option('--budget <ms>', "latency to keep (default: the campaign's)", positiveNumber('ms'))
    .option('--subnet <id>', 'this measured subnet, whatever it costs')
    .option('--campaign <id>', 'choose from this one (default: the newest)')
    .addHelpText('after', example('ofa-fleet deploy kitchen-pi --budget 2.5'))
    .action((device: string, options: DeployOptions) =>
      run(async (context) => (await import('./deploy.ts')).deploy(device, options, context)),
    );

  program
    .command('report')
    .description('write what a campaign measured, every number with its raw data, and the energy')
    .addOption(stateOption())
    .option('--campaign <id>', 'this one (default: the newest)')
    .option('--out <dir>', 'folder for report.html, front.svg, trials.csv, trials.json and samples/', 'ofa-fleet-report')
    .addHelpText('after', example('ofa-fleet report --out out/report'))
    .action((options: ReportOptions) => run(async (context) => (await import('./report.ts')).report(options, context)));
}

function addDemo(program: Command, run: Run): void {
  program
    .command('demo')
    .description('the whole loop on this machine, in under three minutes: two agents, a search, two deployments, a report')
    .option('--subnets <n>', 'distinct subnets, each measured on both devices', wholeNumber(1, 10_000), 40)
    .option('--cap <seconds>', 'the search ends so long after the start at the latest', positiveNumber('seconds'), 142)
    .option('--budget <ms>', 'latency to keep on each device (default: the median of what it measured)', positiveNumber('ms'))
    .option('--seed <n>', 'of the search', wholeNumber(0, Number.MAX_SAFE_INTEGER), 0)
    .option('--out <dir>', 'folder for state and report; a run that was cut off goes on from it', 'out/demo')
    .option('--checkpoint <file>', 'the supernet', SHIPPED)
    .option('--data <dir>', 'IDX files for calibration, validation and test (default: the images that ship)')
    .option('--threads <n>', "of the controller's own evaluations", wholeNumber(1, 64), DEFAULT_THREADS)
    .addHelpText('after', example('ofa-fleet demo', 'ofa-fleet demo --subnets 6 --cap 60'))
    .action((options: DemoOptions) => run(async (context) => (await import('./demo.ts')).demo(options, context)));
}

async function main(argv: readonly string[]): Promise<number> {
  let code: number = EXIT.done;
  const run: Run = async (action) => {
    code = await withContext(action);
  };
  const program = new Command('ofa-fleet')
    .description(
      'Trains one supernet, lets a fleet of real devices measure its subnets over MQTT, searches, deploys the right one to each.',
    )
    .showHelpAfterError('(add --help for what can be given)')
    .exitOverride();
  addTraining(program, run);
  addExchange(program, run);
  addFleet(program, run);
  addDemo(program, run);
  for (const command of program.commands) command.exitOverride().showHelpAfterError('(add --help for what can be given)');
  try {
    await program.parseAsync(argv, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? EXIT.done : EXIT.usage;
  }
  return code;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException;
  const isFull = code === 'ENOSPC' || code === 'EDQUOT' || code === 'SQLITE_FULL';
  const next = isFull
    ? 'The disk is full: free some space and start the same command again.'
    : 'If this repeats, it is a bug: please report it.';
  process.stderr.write(`ofa-fleet: ${message}\n${next}\n`);
  process.exitCode = EXIT.failed;
}
