// A campaign's progress in a few lines: how far, on which device, best so far.
import type { CampaignProgress } from '../campaign.ts';
import { percent, threeDigits } from '../report/format.ts';

export function progressLines({ wanted, complete, classes, repeated }: CampaignProgress): readonly string[] {
  const again = repeated === 0 ? '' : `, ${repeated} measurement${repeated === 1 ? '' : 's'} made again`;
  const width = Math.max(...Object.keys(classes).map((name) => name.length));
  const devices = Object.entries(classes).map(([name, { measured, censored, front }]) => {
    const best = front.reduce<(typeof front)[number] | null>((least, point) => (least === null || (point.objectives['error'] ?? 1) < (least.objectives['error'] ?? 1) ? point : least), null); // prettier-ignore
    const fastest =
      front[0] === undefined
        ? null
        : front.reduce((a, b) => ((a.objectives['latencyMs'] ?? 0) <= (b.objectives['latencyMs'] ?? 0) ? a : b));
    const range =
      best === null || fastest === null ? '' : `; least error ${pointText(best.objectives)}, fastest ${pointText(fastest.objectives)}`;
    return `  ${name.padEnd(width)}  ${measured} measured${censored === 0 ? '' : `, ${censored} given up`}${range}`;
  });
  return [`  ${complete} of ${wanted} subnets measured on every device${again}`, ...devices];
}

function pointText(objectives: Readonly<Record<string, number>>): string {
  return `${percent(objectives['error'] ?? NaN)} in ${threeDigits(objectives['latencyMs'] ?? NaN)} ms`;
}
