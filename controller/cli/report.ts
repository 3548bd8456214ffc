// `ofa-fleet report`: writes what a campaign measured, with everything behind it. Reads the database; needs no running controller.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { failed } from '@ofa-fleet/shared/outcome.ts';
import { loadReportData } from '../report/data.ts';
import { summaryLines } from '../report/summary.ts';
import { writeReport } from '../report/write-report.ts';
import { listCampaigns } from '../store/campaigns.ts';
import { openDatabase } from '../store/database.ts';
import { EXIT, fail, type Context } from './context.ts';

export interface ReportOptions {
  readonly state: string;
  readonly campaign?: string;
  readonly out: string;
}

export async function report(options: ReportOptions, context: Context): Promise<number> {
  const file = join(options.state, 'fleet.sqlite');
  if (!existsSync(file)) {
    return fail(
      context,
      failed('NOT_FOUND', `There is no ${file}, so nothing was measured there: give the folder of \`ofa-fleet serve\` with --state.`),
    );
  }
  const opened = await openDatabase(file);
  if (!opened.ok) return fail(context, opened);
  const db = opened.value;
  try {
    const id = options.campaign ?? (await listCampaigns(db))[0]?.id;
    if (id === undefined) return fail(context, failed('NOT_FOUND', `No campaign is in ${file} yet: run \`ofa-fleet search\` first.`));
    const data = await loadReportData(db, id);
    if (!data.ok) return fail(context, data);
    const written = writeReport(data.value, options.out);
    if (!written.ok) return fail(context, written);
    for (const line of summaryLines(data.value)) context.print(line);
    for (const path of written.value) context.print(path);
    return EXIT.done;
  } finally {
    await db.destroy();
  }
}
