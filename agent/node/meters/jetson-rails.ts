// Which supply rails of a Jetson module make up its total: boards differ, rails nest, and a sum of all of them counts joules twice. Pure.

export interface RailTotal {
  /** To be added up. */
  readonly rails: readonly string[];
  /** What the total holds and leaves out. */
  readonly scope: string;
}

const MODULE = 'the whole module (processors, memory, on-module regulators); not the carrier board, disk, fan and what hangs on it';

/**
 * By the names that NVIDIA's Jetson Linux Developer Guide gives the rails ("Jetson Module Power Sensors", "INA3221 channels"). A rail that
 * stands for the module's input comes before sums.
 */
const TOTALS: readonly RailTotal[] = [
  { rails: ['VDD_IN'], scope: MODULE }, // TX1, TX2, Xavier NX, Orin NX and Nano
  { rails: ['POM_5V_IN'], scope: MODULE }, // Nano
  { rails: ['VIN'], scope: MODULE }, // Thor
  {
    rails: ['GPU', 'CPU', 'SOC', 'CV', 'VDDRQ', 'SYS5V'], // AGX Xavier
    scope: `${MODULE}: the sum of its six rails, since this module measures no input of its own`,
  },
  {
    rails: ['VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0'], // AGX Orin
    scope:
      `${MODULE}: the sum of three rails, since this module measures no input of its own; memory's VDDQ_VDD2_1V8AO is left out, ` +
      `since it is not documented whether VIN_SYS_5V0 feeds it`,
  },
];

/** A channel that nothing is connected to, and the driver's own sum of shunt voltages. */
export function isNoRail(name: string): boolean {
  return name === '' || /^NC$/i.test(name) || /^sum of shunt/i.test(name);
}

/** null where no rule is known for these rails, or where a part of a sum is missing: a part is never shown as the total. */
export function totalOf(names: readonly string[]): RailTotal | null {
  return TOTALS.find(({ rails }) => rails.every((rail) => names.includes(rail))) ?? null;
}
