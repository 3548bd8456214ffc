import { defineConfig } from 'vitest/config';

// `logic` runs side by side; `machine` starts processes, brokers or runtimes whose timing others would disturb, so alone; `lesions` takes
// minutes, and runs by its own command.
const alone = { fileParallelism: false, testTimeout: 120_000, hookTimeout: 120_000 };

export default defineConfig({
  test: {
    maxWorkers: '100%', // the default leaves one core idle, which is half of a small machine
    projects: [
      { test: { name: 'logic', include: ['test/{shared,agent,controller,parity}/**/*.test.ts', 'test/*.test.ts'], testTimeout: 20_000 } },
      { test: { name: 'machine', include: ['test/{flow,faults}/**/*.test.ts'], ...alone } },
      { test: { name: 'lesions', include: ['test/lesions/**/*.test.ts'], ...alone, testTimeout: 900_000, hookTimeout: 900_000 } },
    ],
  },
});
