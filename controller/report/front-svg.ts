// The campaign in one picture: error over latency of every subnet on every device, the fronts, and the baselines beside the search's choice.
import * as echarts from 'echarts';
import type { Trial } from '../search/trial.ts';
import { compare, type ComparisonRow } from './comparison.ts';
import type { ReportData } from './data.ts';
import { threeDigits } from './format.ts';

/** One colour a class, distinguishable with colour-blindness too (Okabe and Ito). */
const COLOURS = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9'];

const MARKS: Readonly<Record<ComparisonRow['role'], { readonly symbol: string; readonly size: number; readonly name: string }>> = {
  chosen: {
    symbol: 'path://M12 1l3.1 7.2 7.9.7-6 5.2 1.8 7.7L12 17.7 5.2 21.8 7 14.1 1 8.9l7.9-.7z',
    size: 20,
    name: "the search's choice",
  },
  largest: { symbol: 'triangle', size: 14, name: 'largest' },
  smallest: { symbol: 'path://M2 4h20L12 21z', size: 13, name: 'smallest' },
  uniform: { symbol: 'rect', size: 12, name: 'best uniform' },
  macs: { symbol: 'diamond', size: 16, name: 'choice by MACs' },
  random: { symbol: 'pin', size: 18, name: 'random, same latency' },
  other: { symbol: 'path://M9 2h6v7h7v6h-7v7H9v-7H2V9h7z', size: 14, name: "other device's choice" },
};

/** An SVG document of `width` × `height`. Error is that on the validation images, which the search sees. */
export function frontSvg(
  data: ReportData,
  size: { readonly width: number; readonly height: number } = { width: 960, height: 560 },
): string {
  const { deviceClasses } = data.campaign.settings;
  const comparisons = compare(data);
  const all = [...data.trials, ...data.baselines.map(({ trial }) => trial)];
  const series = deviceClasses.flatMap((deviceClass, c) => {
    const colour = COLOURS[c % COLOURS.length] as string;
    const points = data.trials.flatMap((trial) => pointOf(trial, deviceClass));
    const marks = (comparisons.find(({ budget }) => budget.deviceClass === deviceClass)?.rows ?? []).flatMap((row): object[] => {
      const trial = all.find((one) => one.subnetId === row.subnetId);
      const point = trial === undefined ? [] : pointOf(trial, deviceClass);
      const mark = MARKS[row.role];
      return point.map((value) => ({
        type: 'scatter',
        name: mark.name,
        data: [value],
        symbol: mark.symbol,
        symbolSize: mark.size,
        itemStyle: { color: row.role === 'chosen' ? colour : 'transparent', borderColor: colour, borderWidth: 1.5 },
        z: row.role === 'chosen' ? 6 : 5,
      }));
    });
    return [
      { type: 'custom', name: deviceClass, data: points, renderItem: errorBar(colour), encode: { x: [0, 2, 3], y: 1 }, itemStyle: { color: colour }, z: 1 },
      { type: 'scatter', name: deviceClass, data: points, symbolSize: 6, itemStyle: { color: colour, opacity: 0.75 }, z: 2 },
      { type: 'line', name: deviceClass, data: frontOf(points), step: 'end', symbol: 'none', lineStyle: { color: colour, width: 1.5 }, itemStyle: { color: colour }, z: 3 },
      ...marks,
    ];
  }); // prettier-ignore
  const names = [...deviceClasses, ...Object.values(MARKS).map(({ name }) => name)];
  const shown = new Set(series.map(({ name }: { name?: string }) => name));
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, ...size });
  chart.setOption({
    animation: false,
    backgroundColor: '#fff',
    title: { text: `${data.campaign.settings.space.name}: error over latency, by device`, left: 'center', textStyle: { fontSize: 15 } },
    legend: {
      data: names.filter((name) => shown.has(name)),
      top: 28,
      itemHeight: 12,
      itemWidth: 16,
      itemGap: 14,
      textStyle: { fontSize: 11 },
    },
    grid: { left: 64, right: 24, top: 96, bottom: 52 },
    xAxis: {
      type: 'log',
      logBase: 2,
      name: 'median latency of one inference, ms (each step doubles; bars are 95 % intervals)',
      nameLocation: 'middle',
      nameGap: 30,
      min: ({ min }: Extent) => 2 ** Math.floor(Math.log2(min)),
      max: ({ max }: Extent) => 2 ** Math.ceil(Math.log2(max)),
      axisLabel: { formatter: threeDigits },
    },
    yAxis: { type: 'value', name: 'error on validation images, %', nameLocation: 'middle', nameGap: 44, scale: true },
    series,
  } as echarts.EChartsCoreOption);
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}

interface Extent {
  readonly min: number;
  readonly max: number;
}

/** [latency, error in %, lower, upper] of a trial on a class, or nothing. */
type PlotPoint = [number, number, number, number];

function pointOf(trial: Trial, deviceClass: string): PlotPoint[] {
  const latency = trial.latencyMs[deviceClass];
  if (latency === undefined) return [];
  return [[latency.value, trial.error * 100, latency.ci?.lo ?? latency.value, latency.ci?.hi ?? latency.value]];
}

/** Non-dominated points by ascending latency. */
function frontOf(points: readonly PlotPoint[]): PlotPoint[] {
  const front: PlotPoint[] = [];
  for (const point of [...points].sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
    if (front.length === 0 || point[1] < (front[front.length - 1] as PlotPoint)[1]) front.push(point);
  }
  return front;
}

/** Draws the interval as a horizontal line. */
function errorBar(colour: string): echarts.CustomSeriesOption['renderItem'] {
  return (_, api) => {
    const [x1 = 0, y = 0] = api.coord([api.value(2), api.value(1)]);
    const [x2 = 0] = api.coord([api.value(3), api.value(1)]);
    return { type: 'line', shape: { x1, y1: y, x2, y2: y }, style: { stroke: colour, lineWidth: 1, opacity: 0.6 } };
  };
}
