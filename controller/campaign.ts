// The loop: ask -> materialise and take the accuracy -> measure on every device class -> record -> tell, and ask again at once.
// Asks and tells are rows before the search hears of them, so a controller that was killed replays them and nothing counts twice.
import type { Clock } from '@ofa-fleet/shared/clock.ts';
import { failed, ok, type Outcome, type Reason } from '@ofa-fleet/shared/outcome.ts';
import type { Fleet, JobEnd } from './fleet/fleet.ts';
import { createInbox } from './inbox.ts';
import { replay } from './search/replay.ts';
import { createSearch, type Ask, type Objectives, type Point, type Search } from './search/search.ts';
import {
  addAsk,
  addTell,
  endCampaign,
  loadCampaign,
  measurementKey,
  openJobsOf,
  type Campaign,
  type EndedReason,
} from './store/campaigns.ts';
import type { Db } from './store/database.ts';
import { settle, whyDoubtful, type Told, type ToldOutcome } from './store/told.ts';
import type { Subnet } from './subnet.ts';

/** Subnets asked and not told, per class: one more than its devices, so that none waits for the next to be materialised. */
const LOOKAHEAD = 1;
/** Before a doubtful measurement is made again, times the tries so far: what disturbed it may then be over, and others are measured meanwhile. */
const REST_MS = 2000;
/** A class whose devices are away must not make its queue grow without end while another class works. */
const MAX_PENDING = 8;

/** Why a subnet could not be prepared that says nothing of the subnet: the campaign is left as it is, to be resumed. */
const CONTROLLERS_FAULTS: ReadonlySet<Reason> = new Set<Reason>(['LOW_DISK', 'CRASHED', 'RUNTIME_MISSING', 'CANCELED']);

export interface Prepared {
  readonly manifestSha256: string;
  /** Share of validation images classified wrongly. */
  readonly error: number;
}

export interface CampaignParts {
  readonly db: Db;
  readonly fleet: Fleet;
  /** Materialises a subnet and takes its validation error; both are cached, so a repeat costs nothing. */
  readonly prepare: (subnet: Subnet, signal: AbortSignal) => Promise<Outcome<Prepared>>;
  readonly clock: Pick<Clock, 'wallMs' | 'sleep'>;
  /** What belongs to a campaign whose subnets are all measured, before it ends; left unfinished, it is called again by the next run. */
  readonly afterSearch?: (signal: AbortSignal) => Promise<void>;
  /** Called after each event, never by timer: a display may redraw then. */
  readonly onProgress: (progress: CampaignProgress) => void;
}

export interface CampaignProgress {
  readonly wanted: number;
  readonly asked: number;
  /** Distinct subnets measured on every class. */
  readonly complete: number;
  /** Told per class: usable, and given up. */
  readonly classes: Readonly<Record<string, { readonly measured: number; readonly censored: number; readonly front: readonly Point[] }>>;
  /** Measurements that were made again since they were suspect or invalid. */
  readonly repeated: number;
  /** What happened last, as a sentence; null at the start. */
  readonly note: string | null;
}

export interface CampaignEnd {
  /** `left`: unfinished, to be resumed. */
  readonly reason: EndedReason | 'left';
  readonly complete: number;
  readonly message: string;
}

/** One subnet on one class, until it is told. */
interface Open {
  readonly ask: Ask;
  readonly deviceClass: string;
  readonly prepared: Prepared;
  readonly tries: JobEnd[];
}

type Event =
  | { readonly kind: 'job-end'; readonly end: JobEnd }
  | { readonly kind: 'rested'; readonly item: Open }
  | { readonly kind: 'prepared'; readonly ask: Ask; readonly outcome: Outcome<Prepared> }
  | { readonly kind: 'broken'; readonly error: unknown };

/**
 * Runs a campaign to its end, or on from where it was left. `end` ends it for good, as complete as it is, its reason being `cap` or `stopped`;
 * `leave` leaves it unfinished, to be resumed. LOW_DISK, CRASHED, RUNTIME_MISSING: the controller cannot prepare subnets; to be resumed too.
 * State: `open` holds exactly the measurements that the fleet has, `resting` counts those that will be made again; `preparing` is the one
 * subnet that is being materialised.
 */
export async function runCampaign(
  parts: CampaignParts,
  campaignId: string,
  signals: { readonly end: AbortSignal; readonly leave: AbortSignal },
): Promise<Outcome<CampaignEnd>> {
  const { db, fleet } = parts;
  const loaded = await loadCampaign(db, campaignId);
  if (!loaded.ok) return loaded;
  const { settings } = loaded.value;
  const resumed = resume(loaded.value);
  if (!resumed.ok) return resumed;
  const { search, waiting } = resumed.value;
  const signal = AbortSignal.any([signals.end, signals.leave]);
  const inbox = createInbox<Event>();
  const open = new Map<string, Open>();
  let preparing: Promise<void> | null = null;
  let repeated = 0;
  let resting = 0;

  const complete = () => search.archive.filter(({ told }) => settings.deviceClasses.every((name) => told.get(name)?.ok === true)).length;
  const alive = () => search.archive.filter(({ told }) => [...told.values()].every((outcome) => outcome.ok)).length;
  const report = (note: string | null) =>
    parts.onProgress(progressOf(search, settings.deviceClasses, settings.subnets, complete(), repeated, note));

  const finish = async (reason: CampaignEnd['reason'], message: string): Promise<Outcome<CampaignEnd>> => {
    if (reason !== 'left') await endForGood(parts, campaignId, reason);
    return ok({ reason, complete: complete(), message });
  };

  const nextAsk = async (): Promise<Ask | null> => {
    const left = waiting.shift();
    if (left !== undefined) return left;
    if (alive() >= settings.subnets || search.archive.length >= mostAsks(settings.subnets)) return null;
    const devices = await fleet.devices();
    const queues = settings.deviceClasses.map((name) => {
      const online = devices.filter((device) => device.deviceClass === name && device.presence === 'online').length;
      return { pending: search.pending(name), devices: Math.max(1, online) };
    });
    if (queues.every((queue) => queue.pending >= queue.devices + LOOKAHEAD)) return null;
    if (queues.some((queue) => queue.pending >= queue.devices * MAX_PENDING)) return null;
    const ask = search.ask();
    if (ask !== null) await addAsk(db, campaignId, ask);
    return ask;
  };

  const prepare = (ask: Ask): Promise<void> =>
    parts.prepare(ask.subnet, signal).then(
      (outcome) => inbox.put({ kind: 'prepared', ask, outcome }),
      (error: unknown) => inbox.put({ kind: 'broken', error }),
    );

  const tell = async (ask: Ask, deviceClass: string, told: Told): Promise<void> => {
    await addTell(db, campaignId, { subnetId: ask.subnetId, deviceClass, ...told, at: parts.clock.wallMs() });
    search.tell({ subnetId: ask.subnetId, deviceClass, outcome: objectivesOf(told.outcome) });
    report(told.outcome.ok ? null : `Subnet ${ask.subnetId} has no number on ${deviceClass}: ${told.outcome.message}`);
  };

  /** Puts the next try in the queue, and takes ends that came while this controller was away. */
  const measure = async (item: Open): Promise<void> => {
    const attempt = item.tries.length + 1;
    const key = measurementKey({ campaignId, purpose: 'search', subnetId: item.ask.subnetId, deviceClass: item.deviceClass, attempt });
    const job = { key, deviceClass: item.deviceClass, manifestSha256: item.prepared.manifestSha256, plan: settings.plan };
    const jobId = await fleet.enqueue(job);
    open.set(jobId, item);
    const end = await fleet.jobEnd(jobId);
    if (end !== null && open.delete(jobId)) await take(item, end);
  };

  /** Tells what the tries come to, or lets the measurement rest and be made again. */
  const take = async (item: Open, end: JobEnd): Promise<void> => {
    item.tries.push(end);
    const settled = settle(item.tries, item.prepared.error);
    if (settled !== null) {
      await tell(item.ask, item.deviceClass, settled);
      return;
    }
    repeated++;
    resting++;
    void parts.clock.sleep(REST_MS * item.tries.length, signal).then(() => inbox.put({ kind: 'rested', item }));
    report(`Measured again on ${item.deviceClass}: ${whyDoubtful(end)}`);
  };

  const stopListening = fleet.onJobEnd((end) => inbox.put({ kind: 'job-end', end }));
  try {
    report(null);
    for (;;) {
      if (complete() >= settings.subnets) {
        for (const jobId of open.keys()) await fleet.cancel(jobId);
        await parts.afterSearch?.(signal);
        return signals.leave.aborted
          ? await finish('left', `${INTERRUPTIONS.left} ${settings.subnets} of ${settings.subnets} subnets.`)
          : await finish('complete', `All ${settings.subnets} subnets are measured on every device.`);
      }
      if (preparing === null && !signal.aborted) {
        const ask = await nextAsk();
        if (ask !== null) preparing = prepare(ask);
        else if (open.size + resting === 0) return await finish('exhausted', exhaustedMessage(search, settings.subnets, complete()));
      }
      const event = await inbox.next(signal);
      if (event === null) {
        const reason = signals.end.aborted ? (signals.end.reason as 'cap' | 'stopped') : 'left';
        return await finish(reason, `${INTERRUPTIONS[reason]} ${complete()} of ${settings.subnets} subnets.`);
      }
      if (event.kind === 'broken') throw event.error;
      if (event.kind === 'rested') {
        resting--;
        await measure(event.item);
        continue;
      }
      if (event.kind === 'job-end') {
        const item = open.get(event.end.jobId);
        if (item === undefined) continue;
        open.delete(event.end.jobId);
        await take(item, event.end);
        continue;
      }
      preparing = null;
      const { ask, outcome } = event;
      if (!outcome.ok && CONTROLLERS_FAULTS.has(outcome.reason)) {
        if (signal.aborted) continue;
        const kept = `${complete()} of ${settings.subnets} subnets are measured and kept; start the same command again to go on.`;
        return failed(outcome.reason, `The search could not go on: ${outcome.message} ${kept}`);
      }
      const missing = settings.deviceClasses.filter((name) => search.archive[ask.n]?.told.has(name) !== true);
      for (const deviceClass of missing) {
        if (outcome.ok) await measure({ ask, deviceClass, prepared: outcome.value, tries: [] });
        else await tell(ask, deviceClass, { jobId: null, outcome });
      }
    }
  } finally {
    stopListening();
    await preparing;
  }
}

/** Takes back what the fleet still has of the campaign, then ends it: one that is killed in between is ended by its next run. */
export async function endForGood(
  { db, fleet }: Pick<CampaignParts, 'db' | 'fleet'>,
  campaignId: string,
  reason: EndedReason,
): Promise<void> {
  for (const jobId of await openJobsOf(db, campaignId)) await fleet.cancel(jobId);
  await endCampaign(db, campaignId, reason);
}

const INTERRUPTIONS = {
  cap: 'The time cap came after',
  stopped: 'Stopped on request after',
  left: 'Left unfinished, to be resumed, after',
} satisfies Partial<Record<CampaignEnd['reason'], string>>;

/** Room for subnets that some device cannot measure; a bound, so that a fleet where nothing works does not ask for ever. */
function mostAsks(subnets: number): number {
  return subnets + Math.max(10, Math.ceil(subnets / 4));
}

function exhaustedMessage(search: Search, wanted: number, complete: number): string {
  return search.archive.length >= mostAsks(wanted)
    ? `Only ${complete} of ${wanted} subnets could be measured on every device after ${search.archive.length} asks: look at the reasons with \`ofa-fleet report\`.`
    : `The search space has no further subnet to offer after ${search.archive.length}; ${complete} are measured on every device.`;
}

/** The search as it was when the controller went away, and the asks that some class has not told. */
function resume(campaign: Campaign): Outcome<{ readonly search: Search; readonly waiting: Ask[] }> {
  const { space, seed, algorithm, deviceClasses } = campaign.settings;
  const search = createSearch({ space, seed, algorithm, deviceClasses, objectives: ['error', 'latencyMs'] });
  const tells = campaign.tells.map(({ subnetId, deviceClass, outcome }) => ({ subnetId, deviceClass, outcome: objectivesOf(outcome) }));
  const replayed = replay(search, campaign.asks, tells);
  if (!replayed.ok) return failed(replayed.reason, `Campaign ${campaign.id} cannot go on. ${replayed.message}`);
  return ok({ search, waiting: search.archive.filter(({ told }) => told.size < deviceClasses.length) });
}

function objectivesOf(outcome: ToldOutcome): Outcome<Objectives> {
  return outcome.ok ? ok(outcome.value.objectives) : outcome;
}

function progressOf(
  search: Search,
  deviceClasses: readonly string[],
  wanted: number,
  complete: number,
  repeated: number,
  note: string | null,
): CampaignProgress {
  const classes = deviceClasses.map((name) => {
    const told = search.archive.flatMap((entry) => entry.told.get(name) ?? []);
    const measured = told.filter((outcome) => outcome.ok).length;
    return [name, { measured, censored: told.length - measured, front: search.front(name) }] as const;
  });
  return { wanted, asked: search.archive.length, complete, repeated, note, classes: Object.fromEntries(classes) };
}
