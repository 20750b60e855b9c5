import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { DrainState, EdgeNode } from '../../../node/api.ts'
import { newApiToken } from '../../../node/api-file.ts'
import { drainCommand } from '../../../node/cli/commands/drain.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { runningHome } from '../../fixtures/running-home.ts'
import { fakeNode } from '../http/fake-node.ts'

let folder: Awaited<ReturnType<typeof temporaryFolder>>
let server: HttpServer
let stage: DrainState
let over: PromiseWithResolvers<boolean>
let out: string
let err: string
let running: AsyncDisposable

beforeEach(async () => {
  folder = await temporaryFolder()
  over = Promise.withResolvers()
  stage = {
    draining: false,
    answers: 1,
    sessions: 2,
    sources: [{ peerId: 'p', name: 'desk\u001b' }],
    onlyHere: ['mine']
  }
  out = ''
  err = ''
  vi.spyOn(process.stdout, 'write').mockImplementation(text => {
    out += String(text)
    return true
  })
  vi.spyOn(process.stderr, 'write').mockImplementation(text => {
    err += String(text)
    return true
  })
  const token = newApiToken()
  const node: EdgeNode = {
    ...fakeNode(),
    get draining() {
      return stage
    },
    drain: () => {
      stage = { ...stage, draining: true }
      return over.promise
    },
    undrain: () => {
      stage = { ...stage, draining: false }
      over.resolve(false)
    }
  }
  const home = join(folder.path, 'home')
  server = await startHttpServer({
    node,
    host: '127.0.0.1',
    port: 0,
    token,
    onLeave: () => void server.stop()
  })
  running = await runningHome(home, { api: server.url, token })
})
afterEach(async () => {
  vi.restoreAllMocks()
  await server.stop()
  await running[Symbol.asyncDispose]()
  await folder[Symbol.asyncDispose]()
})

const edgeshard = (...words: string[]) =>
  drainCommand().parseAsync(['--home', join(folder.path, 'home'), ...words], { from: 'user' })

/** Nothing runs on the node any more. */
function finish(): void {
  stage = { ...stage, answers: 0, sessions: 0, sources: [] }
  over.resolve(true)
}

test('drain says what still runs until the node has left', async () => {
  const draining = edgeshard()
  await vi.waitUntil(() => out !== '', { timeout: 30_000 })
  expect(out).toBe('Draining: 1 of its own answers, 2 sessions of others, leases of desk\n')
  expect(err).toContain('only this device has all of mine')
  finish()
  await draining
  expect(out).toMatch(/The node has left\.\n$/)
})

test('drain --stay ends when nothing runs, and leaves the node where it is', async () => {
  const draining = edgeshard('--stay', '--json')
  await vi.waitUntil(() => out !== '', { timeout: 30_000 })
  finish()
  await draining
  const lines = out
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as DrainState)
  expect(lines[0]).toMatchObject({ draining: true, answers: 1, sessions: 2 })
  expect(lines.at(-1)).toMatchObject({ draining: true, answers: 0, sessions: 0, sources: [] })
  expect((await fetch(`${server.url}/healthz`)).status).toBe(200)
})

test('drain --within gives up waiting, and says that the node goes on being drained', async () => {
  await expect(edgeshard('--within', '0')).rejects.toMatchObject({
    code: 'drain_unfinished',
    message: expect.stringMatching(/1 of its own answers.*goes on being drained.*--undo/)
  })
  expect(stage.draining).toBe(true)
})

test('drain --undo takes it back, and who waits hears of it', async () => {
  const draining = edgeshard()
  const refused = expect(draining).rejects.toThrow('the drain was taken back')
  await vi.waitUntil(() => stage.draining, { timeout: 30_000 })
  await edgeshard('--undo')
  expect(stage.draining).toBe(false)
  await refused
  expect(out).toContain('The node is of use again.\n')
})
