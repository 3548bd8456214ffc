// What `ofa-fleet` can be asked about training: commands, options, and what their help says.
import { availableParallelism } from 'node:os';
import { Option, type Command } from 'commander';
import { ARCHITECTURES } from '../architecture.ts';
import { DEBIAN_FASHION_MNIST } from '../supernet/data/idx.ts';
import { DISTILLATION_LOSSES } from '../supernet/training/recipe.ts';
import { EXIT_SCHEMES } from '../supernet/training/exit-weights.ts';
import { RECIPES } from '../supernet/training/recipes.ts';
import type { Context } from './context.ts';
import type { ExitsOptions } from './exits.ts';
import type { FinetuneCommandOptions } from './finetune.ts';
import { example, positiveNumber, wholeNumber } from './options.ts';
import type { TrainCommandOptions } from './train.ts';

type Run = (action: (context: Context) => Promise<number>) => Promise<void>;

/** Nets of this size gain nothing from more. */
const DEFAULT_THREADS = Math.min(4, availableParallelism());
const threadsOption = () =>
  new Option('--threads <n>', 'threads within an operator').argParser(wholeNumber(1, 256)).default(DEFAULT_THREADS);
const seedOption = () => new Option('--seed <n>', 'of weights, order and subnets').argParser(wholeNumber(0, 2 ** 32 - 1)).default(0);
const dataOption = () => new Option('--data <dir>', 'folder of images').default(DEBIAN_FASHION_MNIST);

export function addTraining(program: Command, run: Run): void {
  program
    .command('train')
    .description('train a supernet; started again after a kill, it goes on where it was')
    .addOption(new Option('--preset <name>', 'search space that ships with the program (default: fashion-tiny)'))
    .addOption(new Option('--space <file>', 'search space as a JSON file'))
    .addOption(new Option('--arch <name>', `turns the space into ${ARCHITECTURES.join(', ')}`))
    .addOption(dataOption())
    .requiredOption('--out <file>', 'the supernet, as safetensors')
    .option(
      '--recipe <name>',
      `how long and how: ${Object.keys(RECIPES).join(', ')}, or a JSON file (default: ofav2; of fashion-tiny its own)`,
    )
    .addOption(
      new Option('--teacher <which>', 'pet: extracted anew for each phase; fixed: as the full phase left it').choices(['pet', 'fixed']),
    )
    .option('--trained-exits-only', 'a teacher answers only by exits that the phase before trained')
    .addOption(new Option('--distillation <loss>', 'distance to the teacher').choices([...DISTILLATION_LOSSES]))
    .addOption(new Option('--exit-weights <scheme>', 'which exits count more').choices([...EXIT_SCHEMES]))
    .addOption(seedOption())
    .addOption(threadsOption())
    .option('--scale <x>', 'multiplies the length of every phase, e.g. 0.01 to try it', positiveNumber('times'), 1)
    .addHelpText(
      'after',
      example(
        'ofa-fleet train --preset fashion-tiny --out out/fashion-tiny.safetensors --scale 0.01',
        'ofa-fleet train --preset fashion --arch EE_D --recipe ofav2 --scale 0.02 --out out/ee_d.safetensors',
      ),
    )
    .action((options: TrainCommandOptions) => run(async (context) => (await import('./train.ts')).train(options, context)));

  program
    .command('finetune')
    .description('train one subnet of a supernet on; started again after a kill, it goes on where it was')
    .argument('<checkpoint>', 'a supernet')
    .requiredOption('--subnet <which>', '`largest`, `smallest`, or a JSON file')
    .addOption(dataOption())
    .requiredOption('--epochs <n>', 'how long', positiveNumber('epochs'))
    .requiredOption('--out <dir>', 'folder for the weights and the subnet; a run that was cut off goes on from it')
    .option('--rate <x>', 'learning rate at the start of the cosine', positiveNumber('rate'), 0.0025)
    .option('--batch <n>', "images a step (default: the recipe's)", wholeNumber(2, 100_000))
    .option('--recipe <name>', "whose augmentation, label smoothing and weight decay (default: the supernet's own)")
    .addOption(seedOption())
    .addOption(threadsOption())
    .addHelpText('after', example('ofa-fleet finetune supernet.safetensors --subnet s.json --epochs 5 --out out/tuned'))
    .action((checkpoint: string, options: FinetuneCommandOptions) =>
      run(async (context) => (await import('./finetune.ts')).finetune(checkpoint, options, context)),
    );

  program
    .command('exits')
    .description('let every combination of exits of one net answer together: chosen on validation, reported on test images')
    .argument('<checkpoint>', 'a supernet with early exits')
    .option('--subnet <which>', '`largest`, `smallest`, or a JSON file; its stages are the exits', 'largest')
    .addOption(dataOption())
    .addOption(new Option('--exit-weights <scheme>', 'of the answers').choices([...EXIT_SCHEMES]).default('ascending'))
    .option('--validation-images <n>', 'look at the first so many only (default: all)', wholeNumber(1, 10_000_000))
    .option('--test-images <n>', 'look at the first so many only (default: all)', wholeNumber(1, 10_000_000))
    .option('--json <file>', 'write the table to this file too')
    .addOption(threadsOption())
    .addHelpText('after', example('ofa-fleet exits controller/assets/fashion-tiny.safetensors --exit-weights uniform'))
    .action((checkpoint: string, options: ExitsOptions) =>
      run(async (context) => (await import('./exits.ts')).exits(checkpoint, options, context)),
    );
}
