// What `join` was asked to do, checked before anything starts: every mistake in one sentence.
import { DEFAULT_BACKOFF, type Backoff } from '@ofa-fleet/shared/mqtt-link.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { ID_PATTERN } from '@ofa-fleet/shared/ids.ts';
import type { PlugAddress } from './meters/meter.ts';
import type { RuntimeName } from './runtime/runtimes.ts';
import { DEFAULT_MAX_TEMPERATURE_C } from './temperature.ts';

export interface AgentSettings {
  /** The controller's broker, `mqtt://host:port`. */
  readonly url: string;
  /** `<claim id>.<secret>`; not needed any more once the device has its own credentials. */
  readonly token: string;
  readonly stateDir: string;
  readonly runtime: RuntimeName;
  readonly deviceClass: string | null;
  readonly name: string | null;
  /** Stop when the process that started this one goes. */
  readonly withParent: boolean;
  readonly hostLockPath: string;
  readonly backoff?: Backoff;
  /** °C above which no work is taken. */
  readonly maxTemperatureC?: number;
  /** Smart plugs that feed this device and nothing else. */
  readonly plugs?: readonly PlugAddress[];
}

interface Token {
  readonly claimId: string;
  readonly secret: string;
}

export interface CheckedSettings extends AgentSettings {
  readonly claim: Token;
  readonly backoff: Backoff;
  readonly maxTemperatureC: number;
  readonly plugs: readonly PlugAddress[];
}

const DEFAULT_PORT = '1883';

export function checkSettings(settings: AgentSettings): Outcome<CheckedSettings> {
  const url = parseUrl(settings.url);
  if (!url.ok) return url;
  const match = /^(clm-[0-9a-f]{16})\.([0-9a-f]{64})$/.exec(settings.token);
  if (match === null) {
    return failed(
      'INVALID_INPUT',
      // the token is not repeated: it may be a right one with one letter too few
      `what was given (${settings.token.length} characters) is no token: one looks like clm-0123456789abcdef.… and \`ofa-fleet serve\` prints one`,
    );
  }
  if (settings.deviceClass !== null && !ID_PATTERN.test(settings.deviceClass)) {
    return failed('INVALID_INPUT', `the class ${JSON.stringify(settings.deviceClass)} may hold only a-z, 0-9, _ and -, at most 64 of them`);
  }
  const claim = { claimId: match[1] as string, secret: match[2] as string };
  return ok({
    ...settings,
    url: url.value,
    claim,
    backoff: settings.backoff ?? DEFAULT_BACKOFF,
    maxTemperatureC: settings.maxTemperatureC ?? DEFAULT_MAX_TEMPERATURE_C,
    plugs: settings.plugs ?? [],
  });
}

function parseUrl(text: string): Outcome<string> {
  const next = 'give the address that `ofa-fleet serve` prints, e.g. mqtt://192.168.1.10:1883';
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return failed('INVALID_INPUT', `${JSON.stringify(text)} is no address; ${next}`);
  }
  if (url.protocol !== 'mqtt:') return failed('INVALID_INPUT', `this agent speaks mqtt://, not ${url.protocol}//; ${next}`);
  if (url.hostname === '') return failed('INVALID_INPUT', `${JSON.stringify(text)} names no host; ${next}`);
  return ok(`mqtt://${url.hostname}:${url.port === '' ? DEFAULT_PORT : url.port}`);
}
