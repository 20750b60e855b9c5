import { execFileSync } from 'node:child_process'
import { expect, test, vi } from 'vitest'
import { openFiles } from '../../node/open-files.ts'

test.skipIf(process.platform === 'win32')(
  'the limit is what a shell says of it, and no thread is asked',
  () => {
    // Node's report waits for every thread, so for seconds where one of them loads weights.
    const report = vi.spyOn(process.report, 'getReport')
    const said = execFileSync('/bin/sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }).trim()
    const { limit, open } = openFiles()
    expect(limit).toBe(said === 'unlimited' ? Number.POSITIVE_INFINITY : Number(said))
    expect(open).toBeGreaterThan(2)
    expect(report).not.toHaveBeenCalled()
  }
)
