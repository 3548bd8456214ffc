// Events in order of arrival with one reader: how a loop waits for whatever comes next, and stops waiting when its signal aborts.

export interface Inbox<T> {
  put(value: T): void;
  /** The next value; null once the signal aborts. */
  next(signal: AbortSignal): Promise<T | null>;
}

export function createInbox<T>(): Inbox<T> {
  const values: T[] = [];
  let wake = () => {};
  return {
    put(value) {
      values.push(value);
      wake();
    },
    async next(signal) {
      if (values.length === 0 && !signal.aborted) {
        const woken = new Promise<void>((resolve) => (wake = resolve));
        signal.addEventListener('abort', wake, { once: true });
        await woken;
        signal.removeEventListener('abort', wake);
      }
      return signal.aborted ? null : (values.shift() as T);
    },
  };
}
