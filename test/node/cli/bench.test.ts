import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { progressOf } from '../../../node/cli/commands/bench.ts'

const CLI = new URL('../../../node/cli/edgeshard.mjs', import.meta.url).pathname

/** Exit status and first line on stderr. */
async function refused(args: string[]): Promise<[unknown, string]> {
  const failed = await promisify(execFile)(process.execPath, [CLI, 'bench', ...args]).then(
    () => ({ code: 0, stderr: '' }),
    (error: { code: unknown; stderr: string }) => error
  )
  return [failed.code, failed.stderr.split('\n')[0]!]
}

test('a method or batch that does not exist is bad input', async () => {
  const [status, line] = await refused(['--methods', 'edgeshard,magic'])
  expect(status).toBe(2)
  expect(line).toMatch(/--methods.*magic.*Give some of edgeshard, edge-solo/)
  expect(await refused(['--batch', '1,zero'])).toEqual([2, expect.stringMatching(/--batch.*max/)])
})

test('a text that cannot be read is bad input, before any node is asked', async () => {
  const [status, line] = await refused(['--text', '/no/such/file', '--api', '127.0.0.1:9'])
  expect(status).toBe(2)
  expect(line).toMatch(/^edgeshard: --text: .*no such file/)
})

test.each([
  ['a terminal', true, ['1 of 2: latency edgeshard 1 ... ', 'no room\n']],
  ['a pipe', false, ['1 of 2: latency edgeshard 1 ... no room\n']]
])('%s hears of each row', (_, isTTY, lines) => {
  const asked = { objective: 'latency', method: 'edgeshard', strategy: null, batch: 1 } as const
  const said: string[] = []
  const onRow = progressOf(2, { isTTY, write: text => said.push(text) })
  onRow(asked)
  onRow(asked, { ...asked, outcome: 'infeasible', reason: 'no room' })
  expect(said).toEqual(lines)
})
