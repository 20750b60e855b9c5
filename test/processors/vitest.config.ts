import { defineConfig } from 'vitest/config'
import { EMULATOR } from './emulated.ts'

// Test files run in processes that are forked with this executable: an emulator, where one is named.
const emulator = process.env[EMULATOR]
if (emulator !== undefined) process.execPath = emulator

export default defineConfig({
  test: {
    root: new URL('../..', import.meta.url).pathname,
    pool: 'forks',
    maxWorkers: 1,
    fileParallelism: false,
    testTimeout: 600_000,
    hookTimeout: 600_000,
    include: ['test/parity/**/*.test.ts', 'test/models/runtime/sampler.test.ts'],
    // All of a text takes hours there; perplexity.ts measures a part of it.
    exclude: emulator === undefined ? [] : ['test/parity/perplexity.test.ts']
  }
})
