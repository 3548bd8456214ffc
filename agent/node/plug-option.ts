// `--plug MAKE:NAME@mqtt://…`: the smart plug that an operator put before this device. No message repeats the address, which may hold a password.
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { PlugAddress } from './meters/meter.ts';

const NEXT = 'give MAKE:NAME@mqtt://HOST, e.g. tasmota:desk-plug@mqtt://192.168.1.10';
const MAKES: readonly PlugAddress['make'][] = ['tasmota', 'shelly', 'zigbee2mqtt'];
const MAX_NAME = 128;
const PROTOCOLS = ['mqtt:', 'mqtts:'];

/** INVALID_INPUT says which part is wrong and what is right. */
export function parsePlug(text: string): Outcome<PlugAddress> {
  const match = /^([^:@/]*):(.*?)@(\w+:\/\/.*)$/s.exec(text);
  if (match === null) return failed('INVALID_INPUT', `this names no plug; ${NEXT}`);
  const [, make = '', name = '', address = ''] = match;
  const known = MAKES.find((one) => one === make.toLowerCase());
  if (known === undefined) {
    return failed('INVALID_INPUT', `${JSON.stringify(make.slice(0, MAX_NAME))} is none of the makes ${MAKES.join(', ')}; ${NEXT}`);
  }
  // # and + would listen to other plugs too
  if (name === '' || name.length > MAX_NAME || /[#+\p{Cc}]/u.test(name) || name.startsWith('/') || name.endsWith('/')) {
    const what = `a plug's name has 1 to ${MAX_NAME} characters, none of them # or +, and begins and ends with none of /`;
    return failed(
      'INVALID_INPUT',
      `${what}; it is the plug's part of its topics (Tasmota's Topic, Shelly's prefix, zigbee2mqtt's friendly name)`,
    );
  }
  const url = parseAddress(address);
  return url === null
    ? failed(
        'INVALID_INPUT',
        `the address behind the @ is none of a broker: mqtt:// or mqtts://, [user:password@]host[:port], with / # ? @ in a password written as %2F %23 %3F %40; ${NEXT}`,
      )
    : ok({ make: known, name, url });
}

/** Written so that whatever belongs to a password is escaped. */
function parseAddress(text: string): string | null {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return null;
  }
  const isBare = url.search === '' && url.hash === '' && (url.pathname === '' || url.pathname === '/');
  if (!PROTOCOLS.includes(url.protocol) || url.hostname === '' || !isBare) return null;
  url.pathname = '';
  return url.href;
}
