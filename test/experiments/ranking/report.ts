// Kendall's rank correlation of inherited with from-scratch accuracy, beside what MACs tell and beside how well the truth ranks itself.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as echarts from 'echarts';
import { ascending, mean, quantile } from '@ofa-fleet/shared/statistics.ts';
import { macsOfSubnet } from '../../../controller/materialise/macs.ts';
import { randomStream } from '../../../controller/supernet/training/random.ts';
import { ARM, EPOCHS, SEEDS, SPACE, SUBNETS } from './design.ts';
import { RESULTS, type Inherited, type Result, type Scratch } from './results.ts';

const RESAMPLES = 2000;

/** Kendall's tau-b (1945): pairs in the same order minus pairs in the other one, over what ties leave. */
function kendallTau(a: readonly number[], b: readonly number[]): number {
  let [agreeing, tiedA, tiedB, pairs] = [0, 0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    for (let j = 0; j < i; j++) {
      const [x, y] = [Math.sign((a[i] as number) - (a[j] as number)), Math.sign((b[i] as number) - (b[j] as number))];
      pairs++;
      agreeing += x * y;
      if (x === 0) tiedA++;
      if (y === 0) tiedB++;
    }
  }
  return agreeing / Math.sqrt((pairs - tiedA) * (pairs - tiedB));
}

export function writeReport(results: readonly Result[]): void {
  const scratch = results.filter((one): one is Scratch => one.kind === 'scratch');
  const inherited = results.filter((one): one is Inherited => one.kind === 'inherited');
  const accuracy = (seed: number, index: number) => scratch.find((one) => one.seed === seed && one.index === index)?.accuracy;
  const seeds = SEEDS.filter((seed) => inherited.some((one) => one.seed === seed));
  const known = SUBNETS.flatMap((_, index) => (SEEDS.every((seed) => accuracy(seed, index) !== undefined) ? [index] : []));
  if (seeds.length === 0 || known.length < 3) return;
  const truthOf = (seed: number) => known.map((index) => accuracy(seed, index) as number);
  const inheritedOf = (seed: number) => known.map((index) => inherited.find((one) => one.seed === seed)?.accuracies[index] as number);
  const truth = meanOf(SEEDS.map(truthOf));
  const shared = meanOf(seeds.map(inheritedOf));
  const macs = known.map((index) => macsOfSubnet(SPACE, SUBNETS[index] as (typeof SUBNETS)[number]));
  const others = (seed: number) => meanOf(SEEDS.filter((other) => other !== seed).map(truthOf));
  const gaps = truth.map((value, i) => value - (shared[i] as number));
  const points = (share: number) => (100 * share).toFixed(1);
  const stages = known.map((index) => (SUBNETS[index] as (typeof SUBNETS)[number]).stages.length);
  const rows: [string, string][] = [
    ['inherited, mean of the supernets', tauText(shared, truth)],
    ...seeds.map((seed): [string, string] => [`inherited, supernet ${seed} alone`, tauText(inheritedOf(seed), truth)]),
    ['multiply-accumulates', tauText(macs, truth)],
    ['number of stages', tauText(stages, truth)],
    ...SEEDS.map((seed): [string, string] => [
      `from scratch with seed ${seed}, against the other seeds`,
      tauText(truthOf(seed), others(seed)),
    ]),
  ];
  const table = known.map((index, i) => {
    const subnet = SUBNETS[index] as (typeof SUBNETS)[number];
    return `| ${index} | ${subnet.stages.length} | ${subnet.resolution} | ${((macs[i] as number) / 1e6).toFixed(2)} | ${seeds.map((seed) => points(inheritedOf(seed)[i] as number)).join(', ')} | ${SEEDS.map((seed) => points(truthOf(seed)[i] as number)).join(', ')} | ${points(gaps[i] as number)} |`; // prettier-ignore
  });
  writeFileSync(
    join(RESULTS, 'README.md'),
    `# Does the supernet rank as the truth does?

Made by \`npm run experiment:ranking\`; design in \`../design.ts\`, data in \`ranking.json\`. ${known.length} random subnets of \`${SPACE.name}\` (${ARM.name}), accuracy on all
${inherited[0]?.images} test images. Inherited: the supernets of \`npm run experiment:ofav2\`, batch norms recalibrated, nothing trained. Truth: each subnet
trained alone from random weights, ${EPOCHS} epochs of the same training images, mean of ${SEEDS.length} seeds.

| ranked by | Kendall's tau with the truth [95 % by resampling subnets] |
|---|---|
${rows.map(([what, tau]) => `| ${what} | ${tau} |`).join('\n')}

Gap, from scratch minus inherited: mean ${points(mean(gaps))} points, from ${points(Math.min(...gaps))} to ${points(Math.max(...gaps))}.

| subnet | stages | resolution | million MACs | inherited, % | from scratch, % | gap, points |
|---|---|---|---|---|---|---|
${table.join('\n')}

![Inherited against from-scratch accuracy](ranking.svg)
`,
  );
  writeFileSync(join(RESULTS, 'ranking.svg'), chart(shared, truth, stages));
}

/** With the interval of 95 % over resampled subnets (percentiles). */
function tauText(by: readonly number[], truth: readonly number[]): string {
  const random = randomStream(0, 'ranking', 'resample');
  const taus = Array.from({ length: RESAMPLES }, () => {
    const chosen = by.map(() => random.integer(0, by.length - 1));
    return kendallTau(chosen.map((i) => by[i] as number), chosen.map((i) => truth[i] as number)); // prettier-ignore
  });
  const sorted = ascending(taus.filter(Number.isFinite));
  return `${kendallTau(by, truth).toFixed(2)} [${quantile(sorted, 0.025).toFixed(2)}, ${quantile(sorted, 0.975).toFixed(2)}]`;
}

/** Element by element. */
function meanOf(rows: readonly (readonly number[])[]): number[] {
  return (rows[0] as readonly number[]).map((_, i) => mean(rows.map((row) => row[i] as number)));
}

function chart(inherited: readonly number[], truth: readonly number[], stages: readonly number[]): string {
  const percent = (share: number) => Number((100 * share).toFixed(2));
  const plot = echarts.init(null, null, { renderer: 'svg', ssr: true, width: 640, height: 460 });
  plot.setOption({
    animation: false,
    title: { text: 'Inherited against from-scratch accuracy, % of test images', left: 'center', textStyle: { fontSize: 14 } },
    legend: { top: 28 },
    grid: { left: 56, right: 24, top: 64, bottom: 48 },
    xAxis: { type: 'value', scale: true, name: 'inherited', nameLocation: 'middle', nameGap: 28 },
    yAxis: { type: 'value', scale: true, name: 'from scratch' },
    series: [...new Set(stages)].sort().map((count) => ({
      name: `${count} stages`,
      type: 'scatter',
      symbolSize: 8,
      data: inherited.flatMap((x, i) => (stages[i] === count ? [[percent(x), percent(truth[i] as number)]] : [])),
    })),
  });
  const svg = plot.renderToSVGString();
  plot.dispose();
  return svg;
}
