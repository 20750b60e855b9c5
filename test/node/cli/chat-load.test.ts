import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { UnknownModelError } from '../../../node/errors.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { hasTerminals, Terminal } from '../../fixtures/terminal.ts'
import { type FakeNode, fakeNode, loadingNode, RESULT } from '../http/fake-node.ts'

const EDGESHARD = fileURLToPath(new URL('../../../node/cli/edgeshard.mjs', import.meta.url))

let folder: Awaited<ReturnType<typeof temporaryFolder>>
let server: HttpServer
beforeEach(async () => {
  folder = await temporaryFolder()
})
afterEach(async () => {
  await server.stop()
  await folder[Symbol.asyncDispose]()
})

async function serve(node: FakeNode): Promise<string[]> {
  server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
  return [process.execPath, EDGESHARD, 'chat', '--api', server.url]
}

/** Runs it with this on stdin. */
async function piped([program, ...args]: string[], input: string) {
  const env = { ...process.env, EDGESHARD_HOME: folder.path }
  const child = spawn(program!, args, { env })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  child.stdin.end(input)
  const status = await new Promise<number | null>(resolve => child.on('close', resolve))
  return { status, stdout, stderr }
}

const options = { timeout: deadlineMs(60_000) }

test(
  'chat has its model loaded as its messages will ask, and neither its end nor an answer waits for that',
  options,
  async () => {
    const node = loadingNode()
    const words = await serve(node)
    const asked = ['--model', 'tiny', '--privacy', 'sealed', '--max-tokens', '9', '--keep-alive', '5m']
    const ended = await piped([...words, ...asked, '--temperature', '0'], 'hi\n')
    expect(ended).toMatchObject({ status: 0, stdout: `${RESULT.text}\n` })
    expect(node.loaded).toEqual([{ model: 'tiny', privacy: 'sealed', maxTokens: 9, keepAliveMs: 300_000 }])
    expect(node.asked).toHaveLength(1)
    await expect.poll(() => node.signals.every(({ aborted }) => aborted)).toBe(true)
  }
)

test('why a load fails is not said, and nothing is loaded that would not stay', options, async () => {
  const node = fakeNode()
  const { load } = node
  node.load = async (model, options) => {
    await load(model, options)
    throw new UnknownModelError('no device holds it')
  }
  const words = await serve(node)
  const { status, stdout, stderr } = await piped(words, 'hi\n')
  expect({ status, stdout }).toEqual({ status: 0, stdout: `${RESULT.text}\n` })
  expect(stderr).not.toContain('holds')
  expect(node.loaded).toHaveLength(1)
  await piped([...words, '--keep-alive', '0'], 'hi\n')
  expect(node.loaded).toHaveLength(1)
})

test.skipIf(!hasTerminals)(
  'at a terminal the load begins before anything is typed, another model is loaded when it is chosen, and /exit ends it (script of util-linux)',
  options,
  async () => {
    const node = loadingNode()
    const words = await serve(node)
    const env = { ...process.env, EDGESHARD_HOME: folder.path }
    const terminal = new Terminal(words, { env })
    try {
      await terminal.shown(/> /)
      await expect.poll(() => node.loaded).toEqual([{ model: undefined }])
      terminal.type('/model tiny\n')
      await terminal.shown(/tiny is asked from now on/)
      await expect.poll(() => node.loaded).toEqual([{ model: undefined }, { model: 'tiny' }])
      terminal.type('/exit\n')
      expect(await terminal.ended).toBe(0)
      await expect.poll(() => node.signals.map(({ aborted }) => aborted)).toEqual([true, true])
    } finally {
      terminal.child.kill('SIGKILL')
    }
  }
)
