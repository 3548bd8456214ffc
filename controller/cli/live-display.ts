// A few lines that are rewritten in place on a terminal, and printed one below the other elsewhere. It draws only when told to, never by
// timer: whoever measures on this machine must not be measured together with a redraw.
export interface LiveDisplay {
  /** Replaces the lines shown before. */
  show(lines: readonly string[]): void;
  /** Prints a line that stays, above the live ones. */
  note(line: string): void;
  /** Leaves the last lines as they are; what is shown next begins below. */
  end(): void;
}

export interface DisplayStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

/** Without a terminal the first line is printed when it changes; the others would only repeat it. */
export function createLiveDisplay(stream: DisplayStream): LiveDisplay {
  let shown: readonly string[] = [];
  const fit = (line: string) =>
    stream.columns === undefined || line.length < stream.columns ? line : `${line.slice(0, stream.columns - 2)}…`;
  const erase = () => (shown.length === 0 ? '' : `\u001b[${shown.length}A\u001b[J`);
  const live = stream.isTTY === true;
  return {
    show(lines) {
      if (live) stream.write(`${erase()}${lines.map((line) => `${fit(line)}\n`).join('')}`);
      else if (lines[0] !== undefined && lines[0] !== shown[0]) stream.write(`${lines[0]}\n`);
      shown = lines;
    },
    note(line) {
      if (!live) stream.write(`${line}\n`);
      else stream.write(`${erase()}${line}\n${shown.map((one) => `${fit(one)}\n`).join('')}`);
    },
    end() {
      shown = [];
    },
  };
}
