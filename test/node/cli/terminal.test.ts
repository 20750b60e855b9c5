import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { hasTerminals, Terminal } from '../../fixtures/terminal.ts'
import { fakeNode } from '../http/fake-node.ts'

const EDGESHARD = fileURLToPath(new URL('../../../node/cli/edgeshard.mjs', import.meta.url))
const COLUMNS = 40

let folder: Awaited<ReturnType<typeof temporaryFolder>>
let server: HttpServer
beforeEach(async () => {
  folder = await temporaryFolder()
  server = await startHttpServer({ node: fakeNode(), host: '127.0.0.1', port: 0 })
})
afterEach(async () => {
  await server.stop()
  await folder[Symbol.asyncDispose]()
})

test.skipIf(!hasTerminals)(
  'what is said to a person in a conversation is broken between words, at 40 columns, too (script of util-linux)',
  { timeout: deadlineMs(30_000) },
  async () => {
    const env = { ...process.env, EDGESHARD_HOME: folder.path }
    const words = [process.execPath, EDGESHARD, 'chat', '--api', server.url]
    const terminal = new Terminal(words, { env, columns: COLUMNS })
    try {
      await terminal.shown(/> /)
      terminal.type('hi\n')
      await terminal.shown(/answered by desk and lap top, 3\.3 ms a\n {4}token\n/)
      terminal.type('/help\n')
      await terminal.shown(/Ctrl-C cancels an\s+answer\n/)
      const help = terminal.text.slice(terminal.text.indexOf('"""'))
      for (const line of help.split('\n')) expect(line.length, line).toBeLessThanOrEqual(COLUMNS)
      terminal.type('/exit\n')
      expect(await terminal.ended).toBe(0)
    } finally {
      terminal.child.kill('SIGKILL')
    }
  }
)
