// The one schema of the controller's database: what is true about devices, jobs, deployments and campaigns. Types and migrations side by
// side, so that a column cannot exist in one of them alone.
import { sql, type Generated, type Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';

/** Milliseconds since 1970, by the controller's clock. */
type Millis = number;

export interface DeviceTable {
  device_id: string;
  name: string;
  device_class: string;
  info_json: string;
  fleet: string;
  /** `00`..`63`: assigned at enrolment, never computed by the device. */
  shard: string;
  /** scrypt, see controller/fleet/credentials.ts. */
  password_hash: string;
  enrolled_at: Millis;
}

/** A single-use right to enrol. */
export interface ClaimTable {
  claim_id: string;
  secret_hash: string;
  name: string | null;
  created_at: Millis;
  expires_at: Millis;
  used_at: Millis | null;
  device_id: string | null;
}

export interface PresenceTable {
  device_id: string;
  state: 'online' | 'suspect' | 'offline';
  last_seen_at: Millis;
  boot_id: string | null;
}

export type JobState = 'QUEUED' | 'LEASED' | 'RUNNING' | 'SUCCEEDED' | 'FAILED' | 'REJECTED' | 'CANCELED' | 'EXPIRED';

export interface JobTable {
  job_id: string;
  /** The caller's key: enqueueing it twice gives the same job. */
  dedupe_key: string;
  device_class: string;
  manifest_sha256: string;
  plan_json: string;
  state: JobState;
  /** Number of the attempt granted last; 0 before the first. Only that attempt may write. */
  attempt: number;
  /** Grows with each change of the row: compare and set. */
  version: number;
  device_id: string | null;
  lease_ms: number;
  deadline_ms: number;
  lease_until: Millis | null;
  deadline_at: Millis | null;
  not_before: Millis;
  not_after: Millis;
  /** Attempts that count towards the limit, and grants that never arrived, which have their own. */
  counted_attempts: number;
  delivery_misses: number;
  created_at: Millis;
  ended_at: Millis | null;
  /** Why there is no measurement; null while running and where job_result tells. */
  end_reason: string | null;
  end_message: string | null;
}

export type AttemptOutcome = 'GRANTED' | 'RUNNING' | 'RESULT' | 'REJECTED' | 'INTERRUPTED' | 'LAPSED' | 'TIMED_OUT' | 'CANCELED';

export interface JobAttemptTable {
  job_id: string;
  attempt: number;
  device_id: string;
  boot_id: string;
  granted_at: Millis;
  ended_at: Millis | null;
  outcome: AttemptOutcome;
}

/** The one counted result of a job. */
export interface JobResultTable {
  job_id: string;
  attempt: number;
  device_id: string;
  /** `Outcome<Measurement>` as it came. */
  outcome_json: string;
  result_hash: string;
  late: 0 | 1;
  at: Millis;
}

/** Results that came and were not counted: kept, because a device did the work and somebody may ask why it is not there. */
export interface JobEvidenceTable {
  job_id: string;
  attempt: number;
  result_hash: string;
  device_id: string;
  verdict: 'stale' | 'conflict';
  outcome_json: string;
  at: Millis;
}

/** A model that killed the agent of a class twice is not sent to that class again. */
interface QuarantineTable {
  device_class: string;
  manifest_sha256: string;
  at: Millis;
}

/** `DeviceHealth` as JSON: only its own rules read it. */
interface DeviceHealthTable {
  device_id: string;
  health_json: string;
}

interface ManifestTable {
  manifest_sha256: string;
  bytes: number;
  blocks_sha256: string | null;
  at: Millis;
}

export interface DeploymentTable {
  device_id: string;
  rev: number;
  manifest_sha256: string;
  state: 'desired' | 'committed' | 'failed' | 'superseded';
  reason: string | null;
  message: string | null;
  desired_at: Millis;
  settled_at: Millis | null;
}

/** Newest report of what a device serves. */
export interface ReportedTable {
  device_id: string;
  rev: number;
  phase: string;
  active_manifest_sha256: string | null;
  serve_url: string | null;
  reason: string | null;
  message: string | null;
  at: Millis;
}

/** Cumulative counters since the deployment became active, as last reported. `boot_id` names the run of the agent within which they grow. */
export interface EnergyReportTable {
  id: Generated<number>;
  device_id: string;
  rev: number;
  manifest_sha256: string | null;
  boot_id: string;
  seq: number;
  idle_joules: number | null;
  active_joules: number | null;
  idle_ms: number;
  active_ms: number;
  inferences: number;
  sensor: string | null;
  reason: string | null;
  message: string | null;
  at: Millis;
}

export interface DeadLetterTable {
  id: Generated<number>;
  at: Millis;
  device_id: string;
  topic: string;
  reason: string;
  sha256: string;
  /** First 4 KiB. */
  body: Uint8Array;
}

interface CampaignTable {
  id: string;
  created_at: Millis;
  settings_json: string;
  space_id: string;
  weights_hash: string;
  state: string;
  ended_reason: string | null;
}

interface AskTable {
  campaign_id: string;
  n: number;
  subnet_id: string;
  subnet_json: string;
  /** How many tells the search had seen when it drew this one: replays the interleaving. */
  told_before: number;
}

interface TellTable {
  campaign_id: string;
  seq: number;
  subnet_id: string;
  device_class: string;
  job_id: string | null;
  outcome_json: string;
  at: Millis;
}

/** Append-only. */
interface AccuracyTable {
  subnet_id: string;
  weights_hash: string;
  split: string;
  correct: number;
  total: number;
  predictions: Uint8Array | null;
  at: Millis;
}

interface ArtifactTable {
  subnet_id: string;
  weights_hash: string;
  manifest_sha256: string;
  macs: number;
  parameters: number;
  at: Millis;
}

/** Subnets outside the search that a comparison needs, one random one for each class; their measurements are jobs like any other. */
interface BaselineTable {
  campaign_id: string;
  device_class: string;
  subnet_id: string;
  subnet_json: string;
}

/** One check of a deployed model: the same images by one way to it, append-only. */
interface ServedCheckTable {
  id: Generated<number>;
  campaign_id: string;
  device_id: string;
  device_class: string;
  subnet_id: string;
  carrier: string;
  images: number;
  agreeing: number;
  /** The device's own time of each run, and the time until the answer was here, in ms and in order. */
  run_ms_json: string;
  round_trip_ms_json: string;
  at: Millis;
}

export interface Schema {
  device: DeviceTable;
  claim: ClaimTable;
  presence: PresenceTable;
  job: JobTable;
  job_attempt: JobAttemptTable;
  job_result: JobResultTable;
  job_evidence: JobEvidenceTable;
  quarantine: QuarantineTable;
  device_health: DeviceHealthTable;
  manifest: ManifestTable;
  deployment: DeploymentTable;
  reported: ReportedTable;
  energy_report: EnergyReportTable;
  dead_letter: DeadLetterTable;
  campaign: CampaignTable;
  ask: AskTable;
  tell: TellTable;
  accuracy: AccuracyTable;
  artifact: ArtifactTable;
  baseline: BaselineTable;
  served_check: ServedCheckTable;
}

const FIRST = `
CREATE TABLE device (
  device_id TEXT PRIMARY KEY, name TEXT NOT NULL, device_class TEXT NOT NULL, info_json TEXT NOT NULL, fleet TEXT NOT NULL, shard TEXT NOT NULL,
  password_hash TEXT NOT NULL, enrolled_at INTEGER NOT NULL
) STRICT;
CREATE TABLE claim (
  claim_id TEXT PRIMARY KEY, secret_hash TEXT NOT NULL, name TEXT, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, used_at INTEGER,
  device_id TEXT REFERENCES device (device_id)
) STRICT;
CREATE TABLE presence (
  device_id TEXT PRIMARY KEY REFERENCES device (device_id), state TEXT NOT NULL, last_seen_at INTEGER NOT NULL, boot_id TEXT
) STRICT;
CREATE TABLE manifest (
  manifest_sha256 TEXT PRIMARY KEY, bytes INTEGER NOT NULL, blocks_sha256 TEXT, at INTEGER NOT NULL
) STRICT;
CREATE TABLE job (
  job_id TEXT PRIMARY KEY, dedupe_key TEXT NOT NULL UNIQUE, device_class TEXT NOT NULL,
  manifest_sha256 TEXT NOT NULL REFERENCES manifest (manifest_sha256), plan_json TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('QUEUED','LEASED','RUNNING','SUCCEEDED','FAILED','REJECTED','CANCELED','EXPIRED')),
  attempt INTEGER NOT NULL, version INTEGER NOT NULL, device_id TEXT REFERENCES device (device_id),
  lease_ms INTEGER NOT NULL, deadline_ms INTEGER NOT NULL, lease_until INTEGER, deadline_at INTEGER, not_before INTEGER NOT NULL,
  not_after INTEGER NOT NULL, counted_attempts INTEGER NOT NULL, delivery_misses INTEGER NOT NULL, created_at INTEGER NOT NULL,
  ended_at INTEGER, end_reason TEXT, end_message TEXT,
  CHECK ((state IN ('LEASED','RUNNING')) = (lease_until IS NOT NULL))
) STRICT;
CREATE INDEX job_queue ON job (device_class, state, not_before, created_at);
CREATE INDEX job_held ON job (device_id, state);
CREATE INDEX job_state ON job (state);
CREATE TABLE job_attempt (
  job_id TEXT NOT NULL REFERENCES job (job_id) ON DELETE CASCADE, attempt INTEGER NOT NULL, device_id TEXT NOT NULL, boot_id TEXT NOT NULL,
  granted_at INTEGER NOT NULL, ended_at INTEGER, outcome TEXT NOT NULL, PRIMARY KEY (job_id, attempt)
) STRICT;
CREATE TABLE job_result (
  job_id TEXT PRIMARY KEY REFERENCES job (job_id) ON DELETE CASCADE, attempt INTEGER NOT NULL, device_id TEXT NOT NULL,
  outcome_json TEXT NOT NULL, result_hash TEXT NOT NULL, late INTEGER NOT NULL, at INTEGER NOT NULL
) STRICT;
CREATE TABLE job_evidence (
  job_id TEXT NOT NULL, attempt INTEGER NOT NULL, result_hash TEXT NOT NULL, device_id TEXT NOT NULL, verdict TEXT NOT NULL,
  outcome_json TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (job_id, attempt, result_hash)
) STRICT;
CREATE TABLE quarantine (
  device_class TEXT NOT NULL, manifest_sha256 TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (device_class, manifest_sha256)
) STRICT;
CREATE TABLE deployment (
  device_id TEXT NOT NULL REFERENCES device (device_id), rev INTEGER NOT NULL, manifest_sha256 TEXT NOT NULL REFERENCES manifest (manifest_sha256),
  state TEXT NOT NULL, reason TEXT, message TEXT, desired_at INTEGER NOT NULL, settled_at INTEGER, PRIMARY KEY (device_id, rev)
) STRICT;
CREATE TABLE reported (
  device_id TEXT PRIMARY KEY REFERENCES device (device_id), rev INTEGER NOT NULL, phase TEXT NOT NULL, active_manifest_sha256 TEXT, serve_url TEXT,
  reason TEXT, message TEXT, at INTEGER NOT NULL
) STRICT;
CREATE TABLE energy_report (
  id INTEGER PRIMARY KEY, device_id TEXT NOT NULL REFERENCES device (device_id), rev INTEGER NOT NULL, manifest_sha256 TEXT, boot_id TEXT NOT NULL,
  seq INTEGER NOT NULL, idle_joules REAL, active_joules REAL, idle_ms REAL NOT NULL, active_ms REAL NOT NULL, inferences INTEGER NOT NULL,
  sensor TEXT, reason TEXT, message TEXT, at INTEGER NOT NULL, UNIQUE (device_id, boot_id, seq)
) STRICT;
CREATE TABLE dead_letter (
  id INTEGER PRIMARY KEY, at INTEGER NOT NULL, device_id TEXT NOT NULL, topic TEXT NOT NULL, reason TEXT NOT NULL, sha256 TEXT NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX dead_letter_device ON dead_letter (device_id, id);
CREATE TABLE campaign (
  id TEXT PRIMARY KEY, created_at INTEGER NOT NULL, settings_json TEXT NOT NULL, space_id TEXT NOT NULL, weights_hash TEXT NOT NULL,
  state TEXT NOT NULL, ended_reason TEXT
) STRICT;
CREATE TABLE ask (
  campaign_id TEXT NOT NULL REFERENCES campaign (id), n INTEGER NOT NULL, subnet_id TEXT NOT NULL, subnet_json TEXT NOT NULL,
  told_before INTEGER NOT NULL, PRIMARY KEY (campaign_id, n), UNIQUE (campaign_id, subnet_id)
) STRICT;
CREATE TABLE tell (
  campaign_id TEXT NOT NULL REFERENCES campaign (id), seq INTEGER NOT NULL, subnet_id TEXT NOT NULL, device_class TEXT NOT NULL, job_id TEXT,
  outcome_json TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (campaign_id, seq), UNIQUE (campaign_id, subnet_id, device_class)
) STRICT;
CREATE INDEX tell_job ON tell (job_id);
CREATE TABLE accuracy (
  subnet_id TEXT NOT NULL, weights_hash TEXT NOT NULL, split TEXT NOT NULL, correct INTEGER NOT NULL, total INTEGER NOT NULL, predictions BLOB,
  at INTEGER NOT NULL
) STRICT;
CREATE INDEX accuracy_subnet ON accuracy (subnet_id, weights_hash, split);
CREATE TRIGGER accuracy_is_append_only BEFORE UPDATE ON accuracy BEGIN SELECT RAISE(ABORT, 'accuracy rows are written once'); END;
CREATE TRIGGER job_result_is_append_only BEFORE UPDATE ON job_result BEGIN SELECT RAISE(ABORT, 'result rows are written once'); END;
CREATE TABLE artifact (
  subnet_id TEXT NOT NULL, weights_hash TEXT NOT NULL, manifest_sha256 TEXT NOT NULL, macs REAL NOT NULL, parameters REAL NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (subnet_id, weights_hash)
) STRICT;
`;

const COMPARISON = `
CREATE TABLE baseline (
  campaign_id TEXT NOT NULL REFERENCES campaign (id), device_class TEXT NOT NULL, subnet_id TEXT NOT NULL, subnet_json TEXT NOT NULL,
  PRIMARY KEY (campaign_id, device_class)
) STRICT;
CREATE TABLE served_check (
  id INTEGER PRIMARY KEY, campaign_id TEXT NOT NULL REFERENCES campaign (id), device_id TEXT NOT NULL REFERENCES device (device_id),
  device_class TEXT NOT NULL, subnet_id TEXT NOT NULL, carrier TEXT NOT NULL, images INTEGER NOT NULL, agreeing INTEGER NOT NULL,
  run_ms_json TEXT NOT NULL, round_trip_ms_json TEXT NOT NULL, at INTEGER NOT NULL
) STRICT;
CREATE INDEX served_check_campaign ON served_check (campaign_id, id);
`;

const DEVICE_HEALTH = `
CREATE TABLE device_health (
  device_id TEXT PRIMARY KEY REFERENCES device (device_id), health_json TEXT NOT NULL
) STRICT;
`;

/** In order of name; a released migration is never edited, the next change is a new one. */
export const MIGRATIONS: Readonly<Record<string, Migration>> = {
  '001-first': { up: (db) => runScript(db, FIRST) },
  '002-comparison': { up: (db) => runScript(db, COMPARISON) },
  '003-device-health': { up: (db) => runScript(db, DEVICE_HEALTH) },
};

async function runScript(db: Kysely<unknown>, script: string): Promise<void> {
  for (const statement of statementsOf(script)) await sql.raw(statement).execute(db);
}

/** Splits at `;` + newline: a trigger's inner `;` is followed by ` END`. */
function statementsOf(script: string): readonly string[] {
  return script
    .split(';\n')
    .map((statement) => statement.trim())
    .filter((statement) => statement !== '');
}
