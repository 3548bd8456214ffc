// Holds one sensor against another of the same boundary: both saw the same joules, so where they differ by more than both admit, neither is
// to be believed alone (ml-energy/zeus#181: 187 J by a counter and 327 J by power, of one idle graphics card).
import type { Interval, Quantity } from '@ofa-fleet/shared/measurement.ts';
import type { EnergyFigure, EnergyReadings } from './energy-figure.ts';
import { energyPerInference } from './energy-figure.ts';
import type { MeterRecorder } from './ports.ts';

/** Of a published interval, k = 2. */
const halfWidth = ({ hi, lo }: Interval) => (hi - lo) / 2;

/** Apart by more than two combined standard uncertainties; null: one of them has no value. */
function apart(a: Quantity, b: Quantity): boolean | null {
  if (a.value === null || b.value === null || a.ci === null || b.ci === null) return null;
  return Math.abs(a.value - b.value) > Math.hypot(halfWidth(a.ci), halfWidth(b.ci));
}

const millijoules = (value: number | null) => ((value ?? NaN) * 1000).toPrecision(4);

/**
 * The figure, with METERS_DISAGREE and both sensors' joules in words where a witness of the same windows contradicts it. A witness that has no
 * figure itself says nothing.
 */
export function crossChecked(
  figure: EnergyFigure,
  windows: Pick<EnergyReadings, 'before' | 'load' | 'after' | 'inferences'>,
  witness: MeterRecorder | null,
): EnergyFigure {
  if (witness?.refreshMs == null || figure.energy.gross.value === null) return figure;
  const other = energyPerInference({ info: witness.info, trace: witness.trace(), refreshMs: witness.refreshMs, ...windows }).energy;
  const { gross, net } = figure.energy;
  if (apart(gross, other.gross) !== true && apart(net, other.net) !== true) return figure;
  const [ours, theirs] = [figure.energy.sensor, other.sensor];
  const message = `${ours} and ${theirs} see the same (${figure.energy.boundary}) and disagree: ${millijoules(gross.value)} and ${millijoules(other.gross.value)} mJ an inference gross, ${millijoules(net.value)} and ${millijoules(other.net.value)} mJ net, beyond both uncertainties. Compare both with an external meter before you believe either.`;
  const told = (quantity: Quantity): Quantity => ({
    ...quantity,
    message: quantity.message === null ? message : `${quantity.message} ${message}`,
  });
  return {
    ...figure,
    energy: { ...figure.energy, gross: told(gross), net: told(net) },
    findings: [...figure.findings, { reason: 'METERS_DISAGREE', effect: 'information', message }],
  };
}
