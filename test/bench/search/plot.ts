// The benchmark's curves as one SVG: share of the best known hypervolume over evaluations, one panel a problem.
import * as echarts from 'echarts';
import type { SeriesOption } from 'echarts';

export interface Curve {
  readonly label: string;
  readonly colour: string;
  /** Recorded peers are drawn dashed. */
  readonly dashed: boolean;
  /** [evaluations, first quartile, median, third quartile], shares in %. */
  readonly points: readonly (readonly [number, number, number, number])[];
}

export interface Panel {
  readonly title: string;
  readonly curves: readonly Curve[];
}

const PANEL = { width: 440, height: 340, left: 60, top: 60, gap: 70 };

/** Medians as lines; quartiles as a band for solid curves. */
export function plotCurves(panels: readonly Panel[]): string {
  const height = PANEL.top + PANEL.height + 110;
  const width = PANEL.left + panels.length * (PANEL.width + PANEL.gap);
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width, height });
  const leftOf = (i: number) => PANEL.left + i * (PANEL.width + PANEL.gap);
  chart.setOption({
    animation: false,
    backgroundColor: '#fff',
    title: panels.map((panel, i) => ({ text: panel.title, left: leftOf(i), top: 15, textStyle: { fontSize: 14 } })),
    legend: { bottom: 10, itemGap: 34, data: (panels[0]?.curves ?? []).map((curve) => curve.label) },
    grid: panels.map((_, i) => ({ left: leftOf(i), top: PANEL.top, width: PANEL.width, height: PANEL.height })),
    xAxis: panels.map((_, i) => ({
      type: 'value',
      gridIndex: i,
      name: 'evaluations',
      nameLocation: 'middle',
      nameGap: 28,
      min: 0,
      max: 500,
    })),
    yAxis: panels.map((_, i) => ({
      type: 'value',
      gridIndex: i,
      name: i === 0 ? '% of best known hypervolume' : '',
      nameLocation: 'middle',
      nameGap: 34,
      min: 40,
      max: 100,
    })),
    series: panels.flatMap((panel, i) => panel.curves.flatMap((curve) => seriesOf(curve, i))),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}

function seriesOf(curve: Curve, panel: number): SeriesOption[] {
  const shared = { type: 'line', xAxisIndex: panel, yAxisIndex: panel, symbol: 'none', silent: true } as const;
  const median: SeriesOption = {
    ...shared,
    name: curve.label,
    data: curve.points.map(([evaluations, , middle]) => [evaluations, middle]),
    lineStyle: { color: curve.colour, width: curve.dashed ? 1.5 : 2.5, type: curve.dashed ? 'dashed' : 'solid' },
    itemStyle: { color: curve.colour },
  };
  if (curve.dashed) return [median];
  // a closed outline: up the first quartile, back down the third
  const there = curve.points.map(([evaluations, low]) => [evaluations, low] as const);
  const back = curve.points.map(([evaluations, , , high]) => [evaluations, high] as const).reverse();
  const band: SeriesOption = {
    type: 'custom',
    xAxisIndex: panel,
    yAxisIndex: panel,
    silent: true,
    data: [0],
    renderItem: (_, api) => ({
      type: 'polygon',
      shape: { points: [...there, ...back].map((point) => api.coord([...point])) },
      style: { fill: curve.colour, opacity: 0.15 },
    }),
  };
  return [band, median];
}
