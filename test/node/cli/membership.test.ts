import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { PeerState } from '../../../node/api.ts'
import { newApiToken } from '../../../node/api-file.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { readMembership } from '../../../node/mesh/membership.ts'
import { decodeTicket, encodeTicket } from '../../../node/mesh/ticket.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'
import { runningHome } from '../../fixtures/running-home.ts'
import { fakeNode } from '../http/fake-node.ts'

const MAIN = fileURLToPath(new URL('../../../node/cli/main.ts', import.meta.url))

let folder: Awaited<ReturnType<typeof temporaryFolder>>
const servers: HttpServer[] = []
beforeEach(async () => {
  folder = await temporaryFolder()
})
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
  await folder[Symbol.asyncDispose]()
})

/** Runs a command with a home of its own, `input` on stdin. */
function edgeshard(name: string, args: string[], input = '') {
  const env = { ...process.env, EDGESHARD_HOME: join(folder.path, name) }
  const child = spawn(process.execPath, [MAIN, ...args], { env })
  const ended = { status: null as number | null, stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => void (ended.stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => void (ended.stderr += text))
  child.stdin.on('error', () => undefined).end(input)
  return new Promise<typeof ended>((resolve, reject) => {
    child.on('error', reject).on('close', status => resolve({ ...ended, status }))
  })
}

const secretOf = async (name: string) => (await readMembership(join(folder.path, name)))?.secret

describe('join', () => {
  it('takes the ticket from its argument or from stdin, and keeps the secret to its owner', async () => {
    const { stdout: ticket, stderr } = await edgeshard('a', ['invite'])
    expect(stderr).toContain('No node runs here, so the ticket has no addresses')
    expect(await edgeshard('b', ['join', ticket.trim()])).toMatchObject({ status: 0, stderr: '' })
    expect(JSON.parse((await edgeshard('c', ['join', '--json'], ticket)).stdout)).toMatchObject({
      outcome: 'joined'
    })
    expect((await edgeshard('d', ['join', '-'], `  ${ticket}\n\n`)).stdout).toContain('Joined the mesh.')
    const secret = await secretOf('a')
    expect(secret).toHaveLength(32)
    for (const name of ['b', 'c', 'd']) {
      expect(await secretOf(name)).toEqual(secret)
      for (const file of await readdir(join(folder.path, name)))
        expect((await stat(join(folder.path, name, file))).mode & 0o077).toBe(0)
    }
  })

  it('ends with status 2 and one line on a ticket that is late, from a device whose clock is wrong, cut off or none', async () => {
    const ticket = (expiresAtMs: number) =>
      encodeTicket({ secret: randomBytes(32), epoch: 0, addresses: [], expiresAtMs })
    const good = ticket(Date.now() + 60_000)
    for (const [text, message] of [
      [ticket(Date.now() - 60_000), /only good until \d{4}-.*; make a new one with 'edgeshard invite'/],
      [ticket(Date.now() + 400 * 24 * 3600_000), /only good until/],
      [good.slice(0, -5), /damaged or cut off: copy the whole word/],
      ['\u001b[2Jhello', /this is not a ticket: it starts with 'edgeshard1-'/],
      ['x'.repeat(1e6), /this is not a ticket/],
      ['', /this is not a ticket/]
    ] as const) {
      const ended = await edgeshard('b', ['join'], text)
      expect(ended).toMatchObject({ status: 2, stdout: '', stderr: expect.stringMatching(message) })
      expect(ended.stderr.trim().split('\n')).toHaveLength(1)
      expect(ended.stderr).not.toContain('\u001b')
    }
    expect(await secretOf('b')).toBeUndefined()
  })
})

describe('mesh rotate', () => {
  it('without a running node changes the secret on disk and says who needs a ticket', async () => {
    const before = decodeTicket((await edgeshard('a', ['invite'])).stdout)
    const { status, stdout } = await edgeshard('a', ['mesh', 'rotate'])
    expect([status, stdout]).toEqual([
      0,
      'The secret is changed. No node runs here, so every other device needs a new ticket.\n'
    ])
    const after = decodeTicket((await edgeshard('a', ['invite'])).stdout)
    expect(after.epoch).toBe(before.epoch + 1)
    expect(after.secret).not.toEqual(before.secret)
  })
})

describe('with a running node', () => {
  const TOKEN = newApiToken()
  const hostile = '\u001b]0;owned\u0007box\u202e\n<b>'

  async function serve(over: object): Promise<string> {
    const server = await startHttpServer({
      node: { ...fakeNode(), ...over },
      host: '127.0.0.1',
      port: 0,
      token: TOKEN
    })
    servers.push(server)
    return server.url
  }

  it('peers names who is not reachable from here, and no name is obeyed by the terminal', async () => {
    const node = fakeNode()
    const [knownFrom, peerId] = [node.mesh().self.peerId, 'c'.repeat(44)]
    const unreached = [
      { peerId, name: hostile, addresses: [`/ip4/10.0.0.3/tcp/1${hostile}`], knownFrom: [knownFrom] }
    ]
    const api = await serve({ mesh: () => ({ ...node.mesh(), unreached }) })
    const shown = await edgeshard('a', ['peers', '--api', api])
    expect(shown.stdout).toContain(
      'box <b>: not reachable from here (known from desk); tried /ip4/10.0.0.3/tcp/1'
    )
    const json = await edgeshard('a', ['peers', '--api', api, '--json'])
    expect(JSON.parse(json.stdout).unreached).toEqual(unreached)
    for (const { stdout } of [shown, json])
      expect(stdout.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Bidi_Control}]/u)
  })

  it('mesh ban takes a name or an id, and half an id of nobody is refused here', async () => {
    const asked: unknown[] = []
    const rotate = async (options: unknown) => {
      asked.push(options)
      return { reached: [], missed: [] }
    }
    const api = await serve({ membership: { ...fakeNode().membership, rotate } })
    await using _ = await runningHome(join(folder.path, 'a'), { api, token: TOKEN })
    const lost = peerIdOf('lost')
    const refused = await edgeshard('a', ['mesh', 'ban', lost.slice(0, -4)])
    expect(refused).toMatchObject({ status: 2, stderr: expect.stringContaining('no device is called') })
    expect(await edgeshard('a', ['mesh', 'ban', lost])).toMatchObject({ status: 0 })
    expect(asked).toEqual([{ ban: lost }])
  })

  it('mesh unban takes an id of the ban list or its end, and what is not on the list is refused here', async () => {
    const asked: unknown[] = []
    const banned = [peerIdOf('lost'), peerIdOf('sold')]
    const unban = async (peerId: string) => void asked.push(peerId)
    const api = await serve({ membership: { ...fakeNode().membership, banned, unban } })
    await using _ = await runningHome(join(folder.path, 'a'), { api, token: TOKEN })
    const short = banned[0]!.slice(-12)
    for (const [id, message] of [
      ['laptop', /no device 'laptop' is banned: give an id that 'edgeshard mesh bans' shows/],
      [peerIdOf('x'), /is banned: give an id/],
      ['', /is banned: give an id/]
    ] as const) {
      const ended = await edgeshard('a', ['mesh', 'unban', id])
      expect(ended).toMatchObject({ status: 2, stderr: expect.stringMatching(message) })
    }
    expect(await edgeshard('a', ['mesh', 'unban', short])).toMatchObject({ status: 0 })
    expect(asked).toEqual([banned[0]])
  })

  it('peers shows whose layers a device keeps in memory, by name', async () => {
    const node = fakeNode()
    const { self } = node.mesh()
    const models = [{ name: hostile, id: 'ab'.repeat(32), layers: [] }]
    const leases = [{ modelId: 'ab'.repeat(32), layers: [3, 6], source: self.peerId }]
    const box = { ...self, peerId: peerIdOf('box'), name: 'box', models, leases }
    const seen = { state: 'connected' as const, connected: true, suspect: false, rttMs: 1, lastSeenMs: 1 }
    const peers = [{ ...box, ...seen }]
    const api = await serve({ mesh: () => ({ ...node.mesh(), peers }) })
    expect((await edgeshard('a', ['peers', '--api', api])).stdout).toContain('box <b> [3, 6) for desk')
    const json = await edgeshard('a', ['peers', '--api', api, '--json'])
    expect(JSON.parse(json.stdout).peers[0].leases).toEqual(leases)
  })

  it('peers says of every device how it is with it, and why', async () => {
    const node = fakeNode()
    const { self } = node.mesh()
    const reason = 'version 0.0.9, update it: its lease protocol is 3, here it is 4'
    const peer = (name: string, state: PeerState) => {
      const connected = state === 'connected' || state === 'suspect'
      const seen = { connected, suspect: state === 'suspect', rttMs: 1, lastSeenMs: 4000 }
      return {
        ...self,
        peerId: peerIdOf(name),
        name,
        state,
        ...seen,
        ...(state !== 'connected' && { reason })
      }
    }
    const peers = [peer('a', 'connected'), peer('b', 'suspect'), peer('c', 'gone'), peer('d', 'incompatible')]
    const api = await serve({ mesh: () => ({ ...node.mesh(), peers }) })
    const { stdout } = await edgeshard('a', ['peers', '--api', api])
    for (const words of ['connected', 'silent for 4', 'gone 4', 'incompatible (version 0.0.9, update it:']) {
      expect(stdout).toContain(words)
    }
    const json = await edgeshard('a', ['peers', '--api', api, '--json'])
    expect(JSON.parse(json.stdout).peers).toMatchObject([
      { state: 'connected' },
      { state: 'suspect', reason },
      { state: 'gone', reason },
      { state: 'incompatible', reason, connected: false }
    ])
  })
})
