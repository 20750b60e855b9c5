import { chmod, copyFile, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { diagnose } from '../../../node/doctor/index.ts'
import { lockHome } from '../../../node/home-lock.ts'
import { startHttpServer } from '../../../node/http/index.ts'
import { loadIdentity } from '../../../node/mesh/identity.ts'
import { loadMembership } from '../../../node/mesh/membership.ts'
import { multicastHint } from '../../../node/mesh/multicast.ts'
import { admitHome } from '../../fixtures/admitted.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'
import { runningHome } from '../../fixtures/running-home.ts'
import { fakeNode } from '../http/fake-node.ts'

let home: string
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'edgeshard-doctor-'))
})
afterEach(() => rm(home, { recursive: true, force: true }))

test('a new home on a healthy device has nothing but ok and notes about itself', async () => {
  const findings = await diagnose(join(home, 'not', 'there'))
  const own = findings.filter(({ check }) => ['home', 'disk', 'runtime'].includes(check))
  expect(own.map(({ check, level }) => `${check} ${level}`)).toEqual(['home ok', 'disk ok', 'runtime ok'])
  expect(own[2]?.found).toContain('cpu')
  expect(findings.find(({ check }) => check === 'node')?.advice).toContain('edgeshard up')
})

test('a home that up could not make or write is a problem, with the words of up, and nothing is made there', async () => {
  const file = join(home, 'file')
  await writeFile(file, '')
  for (const path of [file, join(file, 'home')]) {
    const own = (await diagnose(path)).filter(({ check }) => check === 'home')
    const refused: Error = await lockHome(path).catch(error => error)
    expect(own).toContainEqual({ level: 'problem', check: 'home', found: refused.message })
    expect(own.filter(({ level }) => level === 'ok')).toEqual([])
  }
  await writeFile(join(home, 'store'), '')
  expect(await diagnose(home)).toContainEqual({
    level: 'problem',
    check: 'home',
    found: `cannot write ${join(home, 'store')}: a file is in the way; give another --home`
  })
  expect(await readdir(home)).toEqual(['file', 'store'])
})

test('what starts the node is advised as it was given', async () => {
  const advised = async (...up: string[]) =>
    (await diagnose(home, ...(up as [string?]))).find(({ check }) => check === 'node')?.advice
  expect(await advised()).toBe("start one with 'edgeshard up'")
  expect(await advised('edgeshard up --home /srv/e')).toBe("start one with 'edgeshard up --home /srv/e'")
})

test('a readable key, a damaged mesh file and a node that is gone are found, each with what to do', async () => {
  await loadMembership(home, peerIdOf('desk'))
  await chmod(join(home, 'mesh.json'), 0o644)
  await writeFile(join(home, 'api.json'), JSON.stringify({ api: 'http://127.0.0.1:9', pid: 1 }))
  expect(await diagnose(home)).toContainEqual(
    expect.objectContaining({
      level: 'problem',
      check: 'home',
      advice: `chmod 600 ${join(home, 'mesh.json')}`
    })
  )
  await writeFile(join(home, 'mesh.json'), '{"secret":"00"}')
  const damaged = (await diagnose(home)).find(({ check }) => check === 'home')
  expect(damaged?.found).toContain('mesh.json is damaged; remove it')
})

test('a copied mesh file under another key is found, with how to get in', async () => {
  const other = await mkdtemp(join(tmpdir(), 'edgeshard-doctor-'))
  await admitHome(other, new Uint8Array(32).fill(2))
  await copyFile(join(other, 'mesh.json'), join(home, 'mesh.json'))
  await loadIdentity(home)
  const copied = (await diagnose(home)).find(({ check, level }) => check === 'home' && level === 'problem')
  expect(copied).toMatchObject({
    found: expect.stringContaining('is not admitted to its mesh'),
    advice: expect.stringContaining('edgeshard join')
  })
  const own = (await diagnose(other)).filter(({ check, level }) => check === 'home' && level === 'problem')
  expect(own).toEqual([])
  await rm(other, { recursive: true })
})

test('a damaged identity is found beside whatever else is', async () => {
  await loadMembership(home, peerIdOf('desk'))
  await writeFile(join(home, 'identity.key'), 'no key', { mode: 0o600 })
  const own = (await diagnose(home)).filter(({ check }) => check === 'home')
  expect(own.map(({ level, found }) => `${level} ${found}`)).toEqual([
    expect.stringMatching(/^problem .*identity\.key is not a key; remove it/),
    expect.stringMatching(/^ok .*belongs to a mesh/)
  ])
})

test('a node that asks for a key runs, and one that reaches not everybody says whom', async () => {
  const node = fakeNode()
  const [knownFrom, peerId] = [node.mesh().self.peerId, peerIdOf('c')]
  const unreached = [{ peerId, name: 'box', addresses: ['/ip4/10.0.0.3/tcp/7446'], knownFrom: [knownFrom] }]
  const mesh = () => ({ ...node.mesh(), unreached })
  const findings = async (init: { apiKey?: string }) => {
    const server = await startHttpServer({ node: { ...node, mesh }, host: '127.0.0.1', port: 0, ...init })
    try {
      await using _ = await runningHome(home, { api: server.url })
      return (await diagnose(home)).filter(({ check }) => ['node', 'peers', 'port'].includes(check))
    } finally {
      await server.stop()
    }
  }
  expect(await findings({ apiKey: 'secret' })).toEqual([
    expect.objectContaining({ level: 'note', found: expect.stringContaining('asks for a key') })
  ])
  expect(await findings({})).toContainEqual(
    expect.objectContaining({
      level: 'problem',
      check: 'peers',
      found: 'box is not reachable from here, but from others (1)',
      advice: expect.stringContaining('/ip4/10.0.0.3/tcp/7446')
    })
  )
})

test('a device of another version is a problem that says which of the two to update', async () => {
  const node = fakeNode()
  const reason = 'version 0.0.9, update it: its lease protocol is 3, here it is 4'
  const other = { ...node.mesh().self, peerId: peerIdOf('c'), name: 'box', version: '0.0.9', reason }
  const seen = {
    state: 'incompatible' as const,
    connected: false,
    suspect: false,
    rttMs: null,
    lastSeenMs: 5
  }
  const mesh = () => ({ ...node.mesh(), peers: [{ ...other, ...seen }] })
  const server = await startHttpServer({ node: { ...node, mesh }, host: '127.0.0.1', port: 0 })
  try {
    await using _ = await runningHome(home, { api: server.url })
    const findings = await diagnose(home)
    expect(findings.filter(({ check }) => ['versions', 'peers'].includes(check))).toEqual([
      expect.objectContaining({
        level: 'problem',
        check: 'versions',
        found: expect.stringContaining(`box is incompatible (${reason})`)
      })
    ])
  } finally {
    await server.stop()
  }
})

test('a device with a copy of this home is a problem that names it, and the file to remove', async () => {
  const node = fakeNode()
  const mesh = () => ({ ...node.mesh(), copies: [{ name: 'attic', address: '/ip4/10.0.0.9/tcp/7446' }] })
  const server = await startHttpServer({ node: { ...node, mesh }, host: '127.0.0.1', port: 0 })
  try {
    await using _ = await runningHome(home, { api: server.url })
    expect(await diagnose(home)).toContainEqual(
      expect.objectContaining({
        level: 'problem',
        check: 'identity',
        found: expect.stringContaining('attic at /ip4/10.0.0.9/tcp/7446'),
        advice: expect.stringContaining(`${home}/identity.key`)
      })
    )
  } finally {
    await server.stop()
  }
})

test('multicast errors say what to do on which interface', () => {
  const check = { address: '10.0.0.1', interface: 'eth7', error: 'ENETUNREACH' }
  expect(multicastHint(check)).toContain('ip route add 224.0.0.0/4 dev eth7')
  expect(multicastHint({ ...check, error: 'EPERM' })).toContain('firewall')
})
