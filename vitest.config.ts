import { defineConfig } from 'vitest/config';

// Two groups: `logic` runs side by side; `machine` starts processes, brokers or runtimes whose timing others would disturb, so alone.
export default defineConfig({
  test: {
    projects: [
      { test: { name: 'logic', include: ['test/{shared,agent,controller,parity}/**/*.test.ts', 'test/*.test.ts'] } },
      {
        test: {
          name: 'machine',
          include: ['test/{flow,faults,contract}/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
