// Writes a campaign's report into a folder: front.svg, trials.csv, trials.json, samples/ and the self-contained report.html.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { ReportData } from './data.ts';
import { frontSvg } from './front-svg.ts';
import { reportHtml } from './html.ts';
import { samplesFileName, samplesJson, trialRows, trialsCsv } from './trial-files.ts';

/** Replaces what an earlier report left there; other files in the folder stay. Returns the paths written, `samples/` as one. */
export function writeReport(data: ReportData, directory: string): Outcome<readonly string[]> {
  const samples = join(directory, 'samples');
  const rows = trialRows(data);
  const files: Readonly<Record<string, string>> = {
    'front.svg': frontSvg(data),
    'trials.csv': trialsCsv(rows),
    'trials.json': `${JSON.stringify({ campaign: data.campaign.id, settings: data.campaign.settings, trials: rows }, null, 1)}\n`,
    'report.html': reportHtml(data),
  };
  try {
    mkdirSync(samples, { recursive: true });
    for (const name of readdirSync(samples)) if (isSamplesFile(samples, name)) rmSync(join(samples, name));
    for (const measurement of data.measurements) writeFileSync(join(samples, samplesFileName(measurement.jobId)), samplesJson(measurement));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const why = error instanceof Error ? error.message : String(error);
    return code === 'ENOSPC'
      ? failed(
          'LOW_DISK',
          `The disk is full: the report in ${directory} is not complete. Free some space and run \`ofa-fleet report\` again.`,
        )
      : failed('INVALID_INPUT', `Cannot write the report to ${directory}: ${why}. Give another folder with --out.`);
  }
  return ok([...Object.keys(files).map((name) => join(directory, name)), samples]);
}

/** True for a file that a report wrote: it carries the job that its name comes from. */
function isSamplesFile(folder: string, name: string): boolean {
  if (!name.endsWith('.json')) return false;
  try {
    const content: unknown = JSON.parse(readFileSync(join(folder, name), 'utf8'));
    const jobId = typeof content === 'object' && content !== null && 'jobId' in content ? content.jobId : null;
    return typeof jobId === 'string' && samplesFileName(jobId) === name;
  } catch {
    return false; // what cannot be read as one is not ours
  }
}
