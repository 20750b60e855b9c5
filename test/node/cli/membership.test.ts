import { spawn } from 'node:child_process'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { MemberState, PeerState } from '../../../node/api.ts'
import { newApiToken } from '../../../node/api-file.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { readMembership } from '../../../node/mesh/membership.ts'
import { decodeTicket } from '../../../node/mesh/ticket.ts'
import { admitHome } from '../../fixtures/admitted.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { Nodes } from '../../fixtures/nodes.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'
import { runningHome } from '../../fixtures/running-home.ts'
import { hasTerminals, Terminal } from '../../fixtures/terminal.ts'
import { fakeNode } from '../http/fake-node.ts'

const MAIN = fileURLToPath(new URL('../../../node/cli/edgeshard.mjs', import.meta.url))

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
  it('takes the ticket from its argument or from stdin, and keeps what it gets to its owner', {
    timeout: deadlineMs(60_000)
  }, async () => {
    await using nodes = new Nodes()
    const inviter = await nodes.add({ home: join(folder.path, 'a'), name: 'a', bundled: false })
    const { secret } = (await readMembership(join(folder.path, 'a')))!
    const ticket = () => inviter.invite()
    expect(await edgeshard('b', ['join', await ticket()])).toMatchObject({ status: 0, stderr: '' })
    expect(JSON.parse((await edgeshard('c', ['join', '--json'], await ticket())).stdout)).toMatchObject({
      outcome: 'joined'
    })
    const said = await edgeshard('d', ['join', '-'], `  ${await ticket()}\n\n`)
    expect(said.stdout).toContain('Joined the mesh.')
    for (const name of ['b', 'c', 'd']) {
      expect(await secretOf(name)).toEqual(secret)
      for (const file of await readdir(join(folder.path, name)))
        expect((await stat(join(folder.path, name, file))).mode & 0o077).toBe(0)
    }
    const used = await ticket()
    await edgeshard('e', ['join', used])
    const refused = await edgeshard('f', ['join', used])
    expect(refused).toMatchObject({
      status: 2,
      stdout: '',
      stderr: expect.stringContaining('another device')
    })
    expect(inviter.membership.state.devices.length).toBe(5)
  })

  it('ends with status 2 and one line on a ticket that is cut off, of an earlier version, or none', async () => {
    const good = (await edgeshard('a', ['invite'])).stdout.trim()
    for (const [text, message] of [
      [good.slice(0, -5), /damaged or cut off: copy the whole word/],
      [`edgeshard1-${'A'.repeat(80)}`, /of an earlier version: update the device/],
      ['\u001b[2Jhello', /this is not a ticket: it starts with 'edgeshard2-'/],
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

describe('join of a device that is in a mesh already', () => {
  /** A ticket of device a's mesh, a new one each time. */
  async function ticketOf(nodes: Nodes): Promise<() => Promise<string>> {
    const inviter = await nodes.add({ home: join(folder.path, 'a'), name: 'a', bundled: false })
    return () => inviter.invite()
  }
  const meshOf = async (name: string) => (await readMembership(join(folder.path, name)))?.mesh

  it('says that it leaves others, where nobody can be asked and --yes does not say that it is known', {
    timeout: deadlineMs(60_000)
  }, async () => {
    await using nodes = new Nodes()
    const ticket = await ticketOf(nodes)
    const home = join(folder.path, 'b')
    await admitHome(home, new Uint8Array(32).fill(7))
    const before = await meshOf('b')
    expect(await edgeshard('b', ['join', '--json'], await ticket())).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(/^This device belongs to a mesh with 1 other device, and leaves it /)
    })
    expect(await meshOf('b')).toBe(await meshOf('a'))
    const other = join(folder.path, 'c')
    await admitHome(other, new Uint8Array(32).fill(7))
    expect(await meshOf('c')).toBe(before)
    // The home is named by an option, and so it is in what is to be typed next.
    expect(await edgeshard('x', ['join', '--yes', '--home', other], await ticket())).toEqual({
      status: 0,
      stdout: `Joined the mesh. This device has left the one it belonged to before. Start the node with: edgeshard up --home ${other}\n`,
      stderr: ''
    })
    expect(await meshOf('c')).toBe(await meshOf('a'))
    // In that mesh already, it leaves nothing.
    expect((await edgeshard('b', ['join'], await ticket())).stdout).toMatch(
      /already belongs .* edgeshard up\n$/
    )
  })

  it('asks nobody where it is alone in its mesh', { timeout: deadlineMs(60_000) }, async () => {
    await using nodes = new Nodes()
    const ticket = await ticketOf(nodes)
    await edgeshard('b', ['invite'])
    expect(await meshOf('b')).toBeDefined()
    expect(await edgeshard('b', ['join', '--json'], await ticket())).toMatchObject({ status: 0, stderr: '' })
    expect(await meshOf('b')).toBe(await meshOf('a'))
  })

  it.skipIf(!hasTerminals)('asks at a terminal', { timeout: deadlineMs(60_000) }, async () => {
    await using nodes = new Nodes()
    const ticket = await ticketOf(nodes)
    await admitHome(join(folder.path, 'b'), new Uint8Array(32).fill(7))
    const before = await meshOf('b')
    const env = { ...process.env, EDGESHARD_HOME: join(folder.path, 'b') }
    const asked = async (typed: string) => {
      const terminal = new Terminal([process.execPath, MAIN, 'join', await ticket()], { env, columns: 400 })
      await terminal.shown(/belongs to a mesh with 1 other device.* Join\? \[y\/N\] /)
      terminal.type(typed)
      return [await terminal.ended, terminal.text]
    }
    expect(await asked('\n')).toEqual([0, expect.stringContaining('This device stays in its mesh.')])
    expect(await asked('\u0004')).toEqual([0, expect.stringContaining('This device stays in its mesh.')])
    expect(await asked('\u0003')).toEqual([130, expect.stringMatching(/edgeshard: interrupted\n$/)])
    expect(await meshOf('b')).toBe(before)
    expect(await asked('y\n')).toEqual([0, expect.stringContaining('Joined the mesh. This device has left')])
    expect(await meshOf('b')).toBe(await meshOf('a'))
  })
})

describe('without a running node', () => {
  it('invite says that it has to run, and mesh rotate changes the secret on disk', async () => {
    const { stdout, stderr } = await edgeshard('a', ['invite'])
    expect(stderr).toContain("No node runs here: start it with 'edgeshard up' before the other device joins")
    const before = decodeTicket(stdout)
    const { status, stdout: said } = await edgeshard('a', ['mesh', 'rotate'])
    expect([status, said]).toEqual([
      0,
      'The secret is changed. No node runs here, so every other device needs a new ticket.\n'
    ])
    const after = decodeTicket((await edgeshard('a', ['invite'])).stdout)
    expect(after.mesh).toBe(before.mesh)
    expect(after.secret).not.toEqual(before.secret)
    expect(await readMembership(join(folder.path, 'a'))).toMatchObject({
      epoch: 1,
      signed: { by: after.inviter }
    })
  })

  it('who owns no mesh cannot rotate it', async () => {
    await admitHome(join(folder.path, 'a'), new Uint8Array(32).fill(3))
    const ended = await edgeshard('a', ['mesh', 'rotate'])
    expect(ended).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('only owners of this mesh can rotate')
    })
    expect((await readMembership(join(folder.path, 'a')))?.epoch).toBe(0)
  })
})

describe('with a running node', () => {
  const TOKEN = newApiToken()
  let running: AsyncDisposable | undefined
  afterEach(async () => {
    await running?.[Symbol.asyncDispose]()
    running = undefined
  })
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

  const named = (name: string) => ({ peerId: peerIdOf(name), name })
  const device = (name: string, over: Partial<MemberState> = {}): MemberState => ({
    ...named(name),
    self: false,
    founder: false,
    owner: false,
    admittedBy: [],
    dependents: [],
    ...over
  })
  const DEVICES = [
    device('desk', { self: true, founder: true, owner: true }),
    device('laptop', { admittedBy: [named('desk')], dependents: [named('phone'), named('tablet')] }),
    device('phone', { admittedBy: [named('laptop')] }),
    device('tablet', { admittedBy: [named('laptop')] })
  ]

  /** A node with these devices, and what it was asked. */
  async function owning(): Promise<unknown[]> {
    const asked: unknown[] = []
    const { membership } = fakeNode()
    const state = { mesh: 'desk.0', isIn: true, devices: DEVICES, banned: [] }
    const ban: typeof membership.ban = async (peerId, { keep } = {}) => {
      asked.push({ ban: peerId, keep })
      return { out: [named('laptop')], kept: [] }
    }
    const promote = async (peerId: string) => void asked.push({ promote: peerId })
    const api = await serve({ membership: { ...membership, state, ban, promote } })
    running = await runningHome(join(folder.path, 'a'), { api, token: TOKEN })
    return asked
  }

  it('mesh ban takes a name or an id, and half an id of nobody is refused here', async () => {
    const asked = await owning()
    const lost = peerIdOf('lost')
    const refused = await edgeshard('a', ['mesh', 'ban', lost.slice(0, -4)])
    expect(refused).toMatchObject({ status: 2, stderr: expect.stringContaining('no device is called') })
    expect(await edgeshard('a', ['mesh', 'ban', lost])).toMatchObject({ status: 0 })
    expect(await edgeshard('a', ['mesh', 'ban', 'phone'])).toMatchObject({
      status: 0,
      stdout: 'Out of the mesh: laptop.\n'
    })
    expect(asked).toEqual([lost, peerIdOf('phone')].map(ban => ({ ban, keep: [] })))
  })

  it('mesh ban shows what goes with a device and does it only when told to', async () => {
    const asked = await owning()
    const ended = await edgeshard('a', ['mesh', 'ban', 'laptop'])
    expect(ended).toMatchObject({
      status: 2,
      stdout: '',
      stderr: expect.stringMatching(
        /laptop has let in phone \(\w{8}\), tablet \(\w{8}\), .*: say --yes to that, or --keep/
      )
    })
    const one = await edgeshard('a', ['mesh', 'ban', 'laptop', '--keep', 'phone'])
    expect(one.stderr).toMatch(/laptop has let in tablet \(/)
    expect(asked).toEqual([])
    const kept = ['--keep', 'phone', '--keep', 'tablet']
    expect(await edgeshard('a', ['mesh', 'ban', 'laptop', ...kept])).toMatchObject({ status: 0 })
    expect(await edgeshard('a', ['mesh', 'ban', 'laptop', '--yes'])).toMatchObject({ status: 0 })
    const ban = peerIdOf('laptop')
    expect(asked).toEqual([
      { ban, keep: [peerIdOf('phone'), peerIdOf('tablet')] },
      { ban, keep: [] }
    ])
  })

  it('mesh devices shows who admitted whom, and mesh promote makes an owner', async () => {
    const asked = await owning()
    const { stdout } = await edgeshard('a', ['mesh', 'devices'])
    expect(stdout).toMatch(/desk .*this device; owner, made the mesh/)
    expect(stdout).toMatch(/laptop .* desk /)
    expect(stdout).toMatch(/phone .* laptop /)
    expect(JSON.parse((await edgeshard('a', ['mesh', 'devices', '--json'])).stdout).devices).toEqual(DEVICES)
    expect(await edgeshard('a', ['mesh', 'promote', 'laptop'])).toMatchObject({
      status: 0,
      stdout: 'Owners of the mesh: desk.\n'
    })
    expect(asked).toEqual([{ promote: peerIdOf('laptop') }])
  })

  it('mesh unban takes a name or id of the ban list, and what is not on the list is refused here', async () => {
    const asked: unknown[] = []
    const banned = [
      named('lost'),
      named('sold'),
      { peerId: peerIdOf('old'), name: peerIdOf('old').slice(-8) }
    ]
    const unban = async (peerId: string) => void asked.push(peerId)
    const { membership } = fakeNode()
    const state = { ...membership.state, banned }
    const api = await serve({ membership: { ...membership, state, unban } })
    await using _ = await runningHome(join(folder.path, 'a'), { api, token: TOKEN })
    for (const [id, message] of [
      ['laptop', /no device 'laptop' is banned: give a name or id that 'edgeshard mesh bans' shows/],
      [peerIdOf('x'), /is banned: give a name/],
      ['', /is banned: give a name/]
    ] as const) {
      const ended = await edgeshard('a', ['mesh', 'unban', id])
      expect(ended).toMatchObject({ status: 2, stderr: expect.stringMatching(message) })
    }
    expect(await edgeshard('a', ['mesh', 'unban', banned[0]!.peerId.slice(-12)])).toMatchObject({ status: 0 })
    expect(await edgeshard('a', ['mesh', 'unban', 'sold'])).toMatchObject({ status: 0 })
    expect(asked).toEqual([banned[0]!.peerId, banned[1]!.peerId])
    const { stdout } = await edgeshard('a', ['mesh', 'bans'])
    expect(stdout.trim().split('\n')).toEqual([
      `${peerIdOf('lost')}  lost`,
      `${peerIdOf('sold')}  sold`,
      peerIdOf('old')
    ])
    const json = await edgeshard('a', ['mesh', 'bans', '--json'])
    expect(JSON.parse(json.stdout)).toEqual({ banned: banned.map(({ peerId }) => peerId) })
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
