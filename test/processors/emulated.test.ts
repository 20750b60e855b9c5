import { execFile } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { deadlineMs } from '../fixtures/machine.ts'
import { EMULATED, EMULATOR, emulator, missing, PROCESSORS } from './emulated.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const VITEST = ['node_modules/vitest/vitest.mjs', 'run', '--config', 'test/processors/vitest.config.ts']

// The cheapest of what `npm run test:processors` runs: products, in which processors differ.
describe.each(PROCESSORS)('on $name, emulated', processor => {
  const why = missing(processor)
  const title = why === undefined ? '' : ` (skipped: ${why})`

  it.skipIf(why !== undefined)(`products are right${title}`, { timeout: deadlineMs(120_000) }, async () => {
    const node = await emulator(processor)
    try {
      const env = { ...process.env, [EMULATOR]: node, [EMULATED]: processor.name }
      const args = [...VITEST, 'test/parity/products.test.ts']
      // Rejects where a test fails.
      const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root, env })
      expect(stdout).toContain(`on ${processor.name}, emulated`)
    } finally {
      await rm(dirname(node), { recursive: true })
    }
  })
})
