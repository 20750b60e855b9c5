import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import { deadlineMs } from './fixtures/machine.ts'

// As every command does (node/cli/compile-cache.mjs): a thread that loads sources starts five times as fast where their
// types are stripped once.
process.env.NODE_COMPILE_CACHE ??= fileURLToPath(new URL('../node_modules/.cache/compiled', import.meta.url))

/** Several nodes each, real networks and measurements of them: no more than two such files at once. */
const MESH = ['test/integration/**/*.test.ts']
/** Hosts in network namespaces that take their time from each other: one file at a time. */
const LAB = ['test/lab/**/*.test.ts']
/** Run with coverage, under which V8 optimises nothing: what computes for long, like the planner, is not among them. */
const COVERED = ['test/node/source/**/*.test.ts', 'test/node/stage/**/*.test.ts']

export default defineConfig({
  test: {
    root: new URL('..', import.meta.url).pathname,
    // onnxruntime-node breaks in VM contexts (instanceof Float32Array), so every test file gets a process.
    pool: 'forks',
    // Files with several nodes start dozens of threads each.
    setupFiles: ['node/cli/generic-wrappers.ts'],
    // By the tests of these two rooms alone: `npm run test:core`.
    coverage: {
      provider: 'v8',
      include: ['node/source/**/*.ts', 'node/stage/**/*.ts'],
      reporter: ['text'],
      thresholds: { 'node/source/**/*.ts': { lines: 85 }, 'node/stage/**/*.ts': { lines: 85 } }
    },
    testTimeout: deadlineMs(60_000),
    hookTimeout: deadlineMs(60_000),
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: [...MESH, ...LAB, ...COVERED],
          maxWorkers: 2,
          sequence: { groupOrder: 0 }
        }
      },
      {
        extends: true,
        test: { name: 'core', include: COVERED, maxWorkers: 2, sequence: { groupOrder: 1 } }
      },
      {
        extends: true,
        test: {
          name: 'mesh',
          include: MESH,
          maxWorkers: 2,
          sequence: { groupOrder: 2 }
        }
      },
      {
        extends: true,
        test: {
          name: 'lab',
          include: LAB,
          maxWorkers: 1,
          fileParallelism: false,
          sequence: { groupOrder: 3 }
        }
      }
    ]
  }
})
