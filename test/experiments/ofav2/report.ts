// What the runs come to: a table with every seed, whether the published ordering holds here, and two pictures. Says where it does not hold.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as echarts from 'echarts';
import { mean, meanHalfWidth, standardDeviation, studentT } from '@ofa-fleet/shared/statistics.ts';
import { countParameters, macsOfSubnet } from '../../../controller/materialise/macs.ts';
import { extractSubnet } from '../../../controller/supernet/extract.ts';
import { initialWeights } from '../../../controller/supernet/training/initial-weights.ts';
import { uniformSubnet, type Subnet } from '../../../controller/subnet.ts';
import type { Space } from '../../../controller/space.ts';
import { ARMS, spaceOf, type Arm, type Setting } from './design.ts';
import { readResults, type PhaseResult, type RunResult } from './results.ts';

interface Estimate {
  readonly mean: number;
  /** Half-width of the 95 % interval over seeds (Student's t); null with one seed. */
  readonly half: number | null;
  readonly values: readonly number[];
}

/** Kinds of phases in their order; the last one is the finished supernet. */
const KINDS = ['full', 'kernel', 'level', 'height', 'depth', 'width'] as const;

export function writeReport(setting: Setting, folder: string): void {
  const results = readResults(folder);
  const arms = ARMS.map((arm) => ({ arm, runs: results.filter((run) => run.arm === arm.name) })).filter(({ runs }) => runs.length > 0);
  if (arms.length === 0) return;
  writeFileSync(join(folder, 'README.md'), markdown(setting, arms));
  writeFileSync(join(folder, 'phases.svg'), phaseChart(arms));
  writeFileSync(join(folder, 'uniform.svg'), uniformChart(setting, arms));
}

type ArmRuns = { readonly arm: Arm; readonly runs: readonly RunResult[] };

function estimate(values: readonly number[]): Estimate {
  return { mean: mean(values), half: values.length < 2 ? null : meanHalfWidth(values, 0.95), values };
}

/** Of the finished supernet: the setting that validation picked, on test images. */
const final = (runs: readonly RunResult[]) => estimate(runs.map(({ uniform }) => uniform.picked.test));

/** After the last phase of a kind; null where the arm has none. */
function after(runs: readonly RunResult[], kind: PhaseResult['kind']): Estimate | null {
  const values = runs.flatMap(({ phases }) => phases.filter((phase) => phase.kind === kind).slice(-1).map(({ picked }) => picked)); // prettier-ignore
  return values.length === 0 ? null : estimate(values);
}

const points = (share: number) => (100 * share).toFixed(1);
const text = ({ mean, half }: Estimate) => (half === null ? `${points(mean)} (one seed)` : `${points(mean)} ± ${points(half)}`);

function markdown(setting: Setting, arms: readonly ArmRuns[]): string {
  const columns = KINDS.filter((kind) => arms.some(({ runs }) => after(runs, kind) !== null));
  const row = ({ arm, runs }: ArmRuns) =>
    `| ${arm.name} | ${columns.map((kind) => { const value = after(runs, kind); return value === null ? '–' : text(value); }).join(' | ')} | ${text(final(runs))} | ${runs.map(({ uniform }) => points(uniform.picked.test)).join(', ')} | ${points(Math.max(...runs.map(({ uniform }) => uniform.highest.test)))} |`; // prettier-ignore
  const { provenance } = arms[0]?.runs[0] as RunResult;
  return `# Once-For-All against OFAv2, small

Made by \`npm run experiment:ofav2\`; one file a run beside this one. ${setting.title}. Accuracy in % of the uniform setting that validation picks; ± is the
95 % interval over seeds. ${provenance.backend}, ${provenance.cpu}, ${provenance.trainingImages} training and ${provenance.testImages} test images.

| arm | ${columns.map((kind) => `after ${kind}`).join(' | ')} | finished supernet | its seeds | best seen on test images |
|---|${columns.map(() => '---|').join('')}---|---|---|
${arms.map(row).join('\n')}

## Does the published ordering hold here?

${orderings(arms)
  .map((line) => `- ${line}`)
  .join('\n')}
`;
}

/** Each claim with what was seen: the difference of means and its interval (Welch), or that it is not measured. */
function orderings(arms: readonly ArmRuns[]): string[] {
  const runsOf = (name: string) => arms.find(({ arm }) => arm.name === name)?.runs ?? [];
  const bestSe = bestPlacement(arms);
  const claim = (what: string, more: Estimate | null, less: Estimate | null): string => {
    if (more === null || less === null || more.values.length === 0 || less.values.length === 0) return `${what}: not measured yet`;
    const difference = more.mean - less.mean;
    const error = welch(more, less);
    if (error === null) return `${what}: ${points(difference)} points, one seed, so nothing is decided`;
    const verdict = difference - error > 0 ? 'holds' : difference + error < 0 ? 'does NOT hold, it is the other way round' : 'undecided';
    return `${what}: ${points(difference)} ± ${points(error)} points; ${verdict}`;
  };
  const done = (name: string) => (runsOf(name).length === 0 ? null : final(runsOf(name)));
  const gain = (name: string) => heightGain(runsOf(name));
  return [
    claim(`OFAv2 (EE_D-pet) above OFA at its best of three stride placements (${bestSe?.arm.name ?? 'SE_B'})`, done('EE_D-pet'), bestSe === undefined ? null : final(bestSe.runs)), // prettier-ignore
    claim('the same with 4x4 values kept for OFAv2 too (EE_D-pet-kept above it)', done('EE_D-pet-kept'), bestSe === undefined ? null : final(bestSe.runs)), // prettier-ignore
    claim('(a) EE above SE: EE_B above SE_B', done('EE_B'), done('SE_B')),
    claim('(a) EE above SE: EE_D above SE_D', done('EE_D'), done('SE_D')),
    claim('(b) pet at least as good: SE_B-pet above SE_B', done('SE_B-pet'), done('SE_B')),
    claim('(b) SE_D-pet above SE_D', done('SE_D-pet'), done('SE_D')),
    claim('(b) EE_B-pet above EE_B', done('EE_B-pet'), done('EE_B')),
    claim('(b) EE_D-pet above EE_D', done('EE_D-pet'), done('EE_D')),
    claim('(c) parallel blocks below: EE_B above EE_P', done('EE_B'), done('EE_P')),
    claim('(c) SE_B above SE_P', done('SE_B'), done('SE_P')),
    claim('(d) the largest gain of EE after the kernel phase is at height (EE_D-pet: gain at height above the next largest)', gain('EE_D-pet').height, gain('EE_D-pet').other), // prettier-ignore
    claim('(e) EE below SE after the full phase: SE_B above EE_B', after(runsOf('SE_B'), 'full'), after(runsOf('EE_B'), 'full')),
    claim('(f) dense skips at least as good: EE_D above EE_B', done('EE_D'), done('EE_B')),
    claim('(f) SE_D above SE_B', done('SE_D'), done('SE_B')),
    claim('progressive shrinking above the one-phase recipe: EE_D-pet above EE_D-sandwich', done('EE_D-pet'), done('EE_D-sandwich')),
  ];
}

/** The plain net of single exits whose setting validation thinks best of, by mean over seeds. */
function bestPlacement(arms: readonly ArmRuns[]): ArmRuns | undefined {
  const placements = arms.filter(({ arm }) => arm.architecture === 'SE_B' && arm.teacher === 'fixed');
  const validation = ({ runs }: ArmRuns) => estimate(runs.map(({ uniform }) => uniform.picked.validation)).mean;
  return [...placements].sort((a, b) => validation(b) - validation(a))[0];
}

/** Points gained at height, and the most gained at depth or width, by run. */
function heightGain(runs: readonly RunResult[]): { readonly height: Estimate | null; readonly other: Estimate | null } {
  if (runs.length === 0) return { height: null, other: null };
  const gains = runs.map(({ phases }) => {
    const at = (kind: PhaseResult['kind']) => phases.filter((phase) => phase.kind === kind).at(-1)?.picked ?? NaN;
    return { height: at('height') - at('kernel'), other: Math.max(at('depth') - at('height'), at('width') - at('depth')) };
  });
  return { height: estimate(gains.map(({ height }) => height)), other: estimate(gains.map(({ other }) => other)) };
}

/** Half-width of the 95 % interval of a difference of means (Welch 1947, degrees of freedom rounded down). */
function welch(a: Estimate, b: Estimate): number | null {
  const spread = ({ values }: Estimate) => (values.length < 2 ? NaN : standardDeviation(values) ** 2 / values.length);
  const [va, vb] = [spread(a), spread(b)];
  if (!Number.isFinite(va) || !Number.isFinite(vb) || va + vb === 0) return null;
  const freedom = (va + vb) ** 2 / (va ** 2 / (a.values.length - 1) + vb ** 2 / (b.values.length - 1));
  return studentT(0.95, Math.max(1, Math.floor(freedom))) * Math.sqrt(va + vb);
}

function phaseChart(arms: readonly ArmRuns[]): string {
  const kinds = KINDS.filter((kind) => arms.some(({ runs }) => after(runs, kind) !== null));
  const multi = arms.filter(({ arm }) => arm.recipe === 'ofav2');
  return render({
    title: { text: 'Accuracy after each phase, % of test images', left: 'center', textStyle: { fontSize: 14 } },
    legend: { top: 28, textStyle: { fontSize: 11 } },
    grid: { left: 56, right: 16, top: 92, bottom: 32 },
    xAxis: { type: 'category', data: multi.map(({ arm }) => arm.name), axisLabel: { interval: 0, fontSize: 10 } },
    yAxis: { type: 'value', scale: true },
    series: kinds.map((kind) => ({
      name: kind,
      type: 'bar',
      data: multi.map(({ runs }) => { const value = after(runs, kind); return value === null ? '-' : Number(points(value.mean)); }), // prettier-ignore
    })),
  });
}

/** MACs and parameters of every uniform subnet of the finished supernets of the first seed, against its accuracy. */
function uniformChart({ base }: Setting, arms: readonly ArmRuns[]): string {
  const shown = arms.filter(({ arm }) => ['SE_B', 'EE_D-pet', 'EE_D-sandwich'].includes(arm.name));
  const costs = [
    { name: 'million multiply-accumulates', of: macsOfSubnet },
    { name: 'million parameters', of: parametersCounter() },
  ] as const;
  return render({
    title: { text: 'Every uniform subnet tested, first seed', left: 'center', textStyle: { fontSize: 14 } },
    legend: { top: 28, textStyle: { fontSize: 11 } },
    grid: [
      { left: 56, width: 480, top: 64, bottom: 48 },
      { right: 16, width: 480, top: 64, bottom: 48 },
    ],
    xAxis: costs.map(({ name }, gridIndex) => ({ type: 'log', name, nameLocation: 'middle', nameGap: 28, gridIndex })),
    yAxis: costs.map((_, gridIndex) => ({ type: 'value', scale: true, name: 'accuracy, %', gridIndex })),
    series: costs.flatMap(({ of }, axis) =>
      shown.map(({ arm, runs }) => {
        const space = spaceOf(arm, base);
        return {
          name: arm.name,
          type: 'scatter',
          xAxisIndex: axis,
          yAxisIndex: axis,
          symbolSize: 6,
          data: (runs[0]?.settings ?? []).map((setting) => [of(space, subnetOf(space, setting)) / 1e6, Number(points(setting.test))]),
        };
      }),
    ),
  });
}

/** Trained values of the subnet; what the weights are does not matter. */
function parametersCounter(): (space: Space, subnet: Subnet) => number {
  const weights = new Map<Space, ReturnType<typeof initialWeights>>();
  return (space, subnet) => {
    const tensors = weights.get(space) ?? initialWeights(space, 0);
    weights.set(space, tensors);
    return countParameters(extractSubnet({ space, tensors }, subnet));
  };
}

function subnetOf(space: Space, { resolution, kernel, mask, depth, expand, exit }: RunResult['settings'][number]): Subnet {
  return uniformSubnet(space, {
    resolution,
    kernel: kernel ?? (space.kernels[0] as number),
    expand: expand ?? (space.expands[0] as number),
    depth,
    stages: exit,
    ...(mask === null ? {} : { mask }),
  });
}

function render(option: object): string {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width: 1100, height: 460 });
  chart.setOption({ animation: false, ...option } as echarts.EChartsCoreOption);
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}
