// The live display on a terminal and without one, and the lines of a campaign's progress.
import { describe, expect, it } from 'vitest';
import { createLiveDisplay } from '../../../controller/cli/live-display.ts';
import { progressLines } from '../../../controller/cli/progress-lines.ts';
import { smallestSubnet } from '../../../controller/subnet.ts';
import { TINY_SPACE } from '../../helpers/tiny-supernet.ts';

/** What a terminal shows after the text: moves up and erasures are obeyed. */
function screenOf(text: string): readonly string[] {
  let lines = [''];
  for (const part of text.replaceAll('\u001b', '␛').split(/(␛\[\d*[AJ]|\n)/)) {
    const up = /^␛\[(\d+)A$/.exec(part);
    if (up !== null) lines = [...lines.slice(0, lines.length - 1 - Number(up[1])), ''];
    else if (part === '\n') lines.push('');
    else if (!part.startsWith('␛')) lines[lines.length - 1] = `${lines.at(-1) ?? ''}${part}`;
  }
  return lines.slice(0, -1);
}

function record(isTTY: boolean, columns?: number) {
  let written = '';
  const stream = { isTTY, ...(columns === undefined ? {} : { columns }), write: (text: string) => (written += text) };
  return { display: createLiveDisplay(stream), text: () => written };
}

describe('the live display', () => {
  it('rewrites its lines in place on a terminal, keeps notes above them, and cuts what would wrap', () => {
    const { display, text } = record(true, 20);
    display.show(['one', 'two']);
    display.note('a note');
    display.show(['three', 'a line that is longer than the terminal']);
    expect(screenOf(text())).toEqual(['a note', 'three', 'a line that is lon…']);
    display.end();
    display.show(['next']);
    expect(screenOf(text())).toEqual(['a note', 'three', 'a line that is lon…', 'next']);
  });

  it('prints a line only when it changes, and no control characters, where there is no terminal', () => {
    const { display, text } = record(false);
    for (const line of ['one', 'one', 'two']) display.show([line, 'detail']);
    display.note('a note');
    expect(text()).toBe('one\ntwo\na note\n');
  });
});

describe('progress', () => {
  it('names what is measured, what is given up and the best so far on each device', () => {
    const point = (error: number, latencyMs: number) => ({ n: 0, subnetId: 'x', subnet: smallestSubnet(TINY_SPACE), objectives: { error, latencyMs } }); // prettier-ignore
    const classes = {
      native: { measured: 3, censored: 1, front: [point(0.1, 4), point(0.2, 2)] },
      wasm: { measured: 0, censored: 0, front: [] },
    };
    expect(progressLines({ wanted: 9, asked: 4, complete: 2, repeated: 1, note: null, classes })).toEqual([
      '  2 of 9 subnets measured on every device, 1 measurement made again',
      '  native  3 measured, 1 given up; least error 10.0 % in 4.00 ms, fastest 20.0 % in 2.00 ms',
      '  wasm    0 measured',
    ]);
  });
});
