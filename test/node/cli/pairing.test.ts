import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { newApiToken, writeApiFile } from '../../../node/api-file.ts'
import { createClient } from '../../../node/client/index.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import type { EdgeNode } from '../../../node/index.ts'
import { hostAndPort } from '../../../node/mesh/contacts.ts'
import { readMembership } from '../../../node/mesh/membership.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { Nodes } from '../../fixtures/nodes.ts'
import { hasTerminals, Terminal } from '../../fixtures/terminal.ts'

const MAIN = fileURLToPath(new URL('../../../node/cli/main.ts', import.meta.url))

let folder: Awaited<ReturnType<typeof temporaryFolder>>
const servers: HttpServer[] = []
const children: ChildProcess[] = []
beforeEach(async () => {
  folder = await temporaryFolder()
})
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  await Promise.all(servers.splice(0).map(server => server.stop()))
  await folder[Symbol.asyncDispose]()
})

/** Starts a command with a home of its own; `ended` has what it said. */
function started(name: string, args: string[]) {
  const env = { ...process.env, EDGESHARD_HOME: join(folder.path, name) }
  const child = spawn(process.execPath, [MAIN, ...args], { env })
  children.push(child)
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => void (stderr += text))
  const next = async () => JSON.parse((await lines.next()).value ?? 'null') as Record<string, unknown>
  const ended = once(child, 'close').then(([status]) => ({ status: status as number, stderr }))
  return { child, next, ended }
}

/** A node in the home that `pair` looks into, with its API served. */
async function member(nodes: Nodes): Promise<EdgeNode> {
  const home = join(folder.path, 'a')
  const node = await nodes.add({ home, name: 'a', bundled: false })
  const token = newApiToken()
  const server = await startHttpServer({ node, host: '127.0.0.1', port: 0, token })
  servers.push(server)
  await writeApiFile(home, { api: server.url, token })
  return node
}

async function joined(name: string, args: string[], code: string) {
  const joining = started(name, ['join', '--json', ...args])
  joining.child.stdin.end(`${code.slice(0, 3)} ${code.slice(3)}\n`)
  return { said: await joining.next(), ...(await joining.ended) }
}

test('pair shows a code and says who has paired; join takes it from stdin, at an address', {
  timeout: deadlineMs(60_000)
}, async () => {
  await using nodes = new Nodes()
  const node = await member(nodes)

  const pairing = started('a', ['pair', '--json'])
  const opened = await pairing.next()
  expect(opened).toMatchObject({ event: 'open', code: expect.stringMatching(/^\d{6}$/), triesLeft: 3 })
  const [code, addresses] = [opened.code as string, opened.addresses as string[]]
  const port = hostAndPort(addresses[0]!).split(':').at(-1)
  const at = ['--peer', `localhost:${port}`]

  const wrong = await joined('b', at, String((Number(code) + 1) % 1e6).padStart(6, '0'))
  expect(wrong).toMatchObject({
    said: null,
    status: 1,
    stderr: expect.stringContaining('shows another code')
  })
  expect(await readMembership(join(folder.path, 'b'))).toBeNull()
  expect(node.pairing.state).toMatchObject({ open: true, triesLeft: 2 })

  expect(await joined('b', at, code)).toMatchObject({ said: { outcome: 'joined' }, status: 0, stderr: '' })
  const [, device] = node.membership.state.devices.map(({ peerId }) => peerId)
  expect(await pairing.next()).toEqual({
    event: 'end',
    end: 'paired',
    device,
    from: expect.stringMatching(/^(127\.0\.0\.1|::1)$/)
  })
  expect(await pairing.ended).toEqual({ status: 0, stderr: '' })
  expect((await readMembership(join(folder.path, 'b')))?.mesh).toBe(node.membership.state.mesh)
})

/** `join` as a person types it on another device. */
function typedJoin(name: string, args: string[]): Terminal {
  const env = { ...process.env, EDGESHARD_HOME: join(folder.path, name) }
  const terminal = new Terminal([process.execPath, MAIN, 'join', ...args], { env })
  children.push(terminal.child)
  return terminal
}

test.skipIf(!hasTerminals)(
  'at a terminal a person is asked for the digits, three times, and told what else is typed there',
  {
    timeout: deadlineMs(60_000)
  },
  async () => {
    await using nodes = new Nodes()
    const node = await member(nodes)
    const open = async () => {
      const state = await node.pairing.open()
      if (!state.open) throw new Error('pairing is not open')
      const wrong = String((Number(state.code) + 1) % 1e6).padStart(6, '0')
      const port = hostAndPort(state.addresses[0]!).split(':').at(-1)
      return { code: state.code, wrong, at: ['--peer', `127.0.0.1:${port}`] }
    }

    const first = await open()
    const right = typedJoin('b', first.at)
    await right.shown(/six digits that the other device shows: /)
    right.type('edgeshard-ticket\n')
    await right.shown(/Those are not six digits\. Who has a ticket types 'edgeshard join'/)
    await right.shown(/six digits that the other device shows: /)
    right.type(`${first.wrong}\n`)
    await right.shown(/shows another code/)
    await right.shown(/six digits that the other device shows: /)
    right.type(`${first.code.slice(0, 3)}-${first.code.slice(3)}\n`)
    await right.shown(/Joined the mesh/)
    expect(await right.ended).toBe(0)

    const second = await open()
    const wrong = typedJoin('c', second.at)
    for (let typed = 0; typed < 3; typed++) {
      await wrong.shown(/six digits that the other device shows: /)
      wrong.type(`${second.wrong}\n`)
    }
    await wrong.shown(
      /none of three codes was the one .*takes no more: 'edgeshard pair' there shows a new one/s
    )
    expect(await wrong.ended).toBe(1)
    expect(node.pairing.state).toMatchObject({ open: false, end: 'tries' })
  }
)

test('told to stop, pair closes what it has opened', async () => {
  await using nodes = new Nodes()
  const node = await member(nodes)
  const pairing = started('a', ['pair', '--json'])
  await pairing.next()
  pairing.child.kill('SIGINT')
  expect(await pairing.ended).toEqual({ status: 130, stderr: 'edgeshard: interrupted\n' })
  expect(node.pairing.state).toEqual({ open: false, end: 'closed' })
})

test('page prints a link whose code lets a page pair, once', async () => {
  await using nodes = new Nodes()
  await member(nodes)
  const printing = started('a', ['page', '--json'])
  const { url, code } = (await printing.next()) as { url: string; code: string }
  expect(await printing.ended).toEqual({ status: 0, stderr: '' })
  expect(new URL(url).hash).toBe(`#pair=${code}`)
  const client = createClient({ url })
  const { grant } = await client.pageGrant(code)
  expect(await createClient({ url, token: grant }).pairing()).toEqual({ open: false })
  await expect(client.pageGrant(code)).rejects.toMatchObject({ code: 'page_code_unusable' })
})
