import { spawnSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

const RUN = fileURLToPath(new URL('run.ts', import.meta.url))
const CONFIG = fileURLToPath(new URL('fixtures/crashes/vitest.config.ts', import.meta.url))

it.each([
  { crashes: 0, fails: false, status: 0, twice: false },
  { crashes: 1, fails: false, status: 0, twice: true },
  { crashes: 1, fails: true, status: 1, twice: true },
  { crashes: 2, fails: false, status: 1, twice: true }
])(
  'a file whose process crashes is run once more and named: %o',
  async ({ crashes, fails, status, twice }) => {
    const folder = await mkdtemp(join(tmpdir(), 'edgeshard-crashes-'))
    try {
      const { VITEST: _, ...env } = process.env
      const run = spawnSync(process.execPath, [RUN, '--config', CONFIG, 'crashes'], {
        env: { ...env, CRASH_FOLDER: folder, CRASHES: `${crashes}`, ...(fails ? { FAILS: '1' } : {}) },
        encoding: 'utf8'
      })
      expect(run.status, run.stdout + run.stderr).toBe(status)
      expect(run.stdout.includes('Run twice, as the process crashed: ')).toBe(twice)
      if (!twice) return
      expect(run.stdout).toContain(
        'crashing.crash.ts (SIGTRAP in "crashes until it has crashed often enough")'
      )
      expect(run.stdout).toContain('# Fatal error in , line 0\n# Check failed: something.')
    } finally {
      await rm(folder, { recursive: true })
    }
  }
)
