// Holds one sensor against a second that saw the same windows: of the same boundary, or a plug that the first was calibrated against. Where they
// differ by more than both admit, neither is to be believed alone (ml-energy/zeus#181: 187 J by a counter and 327 J by power, of one card).
import type { Interval, Quantity } from '@ofa-fleet/shared/measurement.ts';
import { disagreement, type Calibration, type MeanPower } from './calibration.ts';
import { lagMs, windowEnergy } from './energy.ts';
import { energyPerInference, type EnergyFigure, type EnergyReadings } from './energy-figure.ts';
import type { MeterRecorder } from './ports.ts';

/** A second sensor, and the line between the two where their boundaries differ. */
export interface Witness {
  readonly recorder: MeterRecorder;
  /** null: both have the same boundary. */
  readonly calibration: Calibration | null;
}

/** Of a published interval, k = 2. */
const halfWidth = ({ hi, lo }: Interval) => (hi - lo) / 2;

/** Apart by more than two combined standard uncertainties. One without a value says nothing. */
function apart(a: Quantity, b: Quantity): boolean {
  if (a.value === null || b.value === null || a.ci === null || b.ci === null) return false;
  return Math.abs(a.value - b.value) > Math.hypot(halfWidth(a.ci), halfWidth(b.ci));
}

const millijoules = (value: number | null) => (value === null ? '-' : (value * 1000).toPrecision(4));

/** METERS_DISAGREE in a sentence, with both figures; null: they agree, or the witness has no figure for windows that short. */
function contradiction(figure: EnergyFigure, readings: EnergyReadings, { recorder, calibration }: Witness): string | null {
  if (recorder.refreshMs === null) return null;
  const seen: EnergyReadings = { ...readings, info: recorder.info, trace: recorder.trace(), refreshMs: recorder.refreshMs };
  const other = energyPerInference(seen).energy;
  const { gross, net, sensor, boundary } = figure.energy;
  if (other.gross.value === null) return null;
  if (calibration !== null) {
    const [rail, wall] = [loadPower(readings), loadPower(seen)];
    return rail === null || wall === null ? null : (disagreement(calibration, rail, wall)?.message ?? null);
  }
  if (!apart(gross, other.gross) && !apart(net, other.net)) return null;
  return `${sensor} and ${other.sensor} see the same (${boundary}) and disagree: ${millijoules(gross.value)} and ${millijoules(other.gross.value)} mJ an inference gross, ${millijoules(net.value)} and ${millijoules(other.net.value)} mJ net, beyond both uncertainties. Compare both with an external meter before you believe either.`;
}

function loadPower({ trace, info, load, refreshMs }: EnergyReadings): MeanPower | null {
  const energy = windowEnergy(trace, info, load, refreshMs, lagMs(info, refreshMs));
  return energy.ok ? { watts: energy.value.watts, u: energy.value.u / energy.value.seconds } : null;
}

/** The figure; where the witness contradicts it, with METERS_DISAGREE, both sensors' joules in words beside gross and net. */
export function crossChecked(figure: EnergyFigure, readings: EnergyReadings, witness: Witness | null): EnergyFigure {
  if (witness === null || figure.energy.gross.value === null) return figure;
  const message = contradiction(figure, readings, witness);
  if (message === null) return figure;
  const { gross, net } = figure.energy;
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
