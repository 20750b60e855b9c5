import { afterEach, expect, test } from 'vitest'
import type { Mesh } from '../../node/mesh/index.ts'
import { differences, PROTOCOLS, type ProtocolIds, type ProtocolName } from '../../protocols/versions.ts'
import { SECRET as NODE_SECRET, Nodes } from '../fixtures/nodes.ts'
import { Meshes, record, until } from '../node/mesh/fixtures.ts'

const meshes = new Meshes()
afterEach(() => meshes.stop())

const NAMES = Object.keys(PROTOCOLS) as ProtocolName[]

/** The ids of a version in which one protocol is older or newer by `by` than all of it that this one speaks. */
function changed(protocol: ProtocolName, by: number): ProtocolIds {
  const id = PROTOCOLS[protocol].at(by < 0 ? -1 : 0)!
  const at = id.lastIndexOf('/') + 1
  return { ...PROTOCOLS, [protocol]: [`${id.slice(0, at)}${Number(id.slice(at)) + by}`] }
}

/** A node of this version and one of another, each with what it has said to people; `dials` opens the connection. */
async function pair(protocols: ProtocolIds, dials: 'own' | 'other', version = '0.0.9') {
  const said = { own: [] as string[], other: [] as string[] }
  const add = async (name: 'own' | 'other', peers: string[]): Promise<Mesh> => {
    const init = name === 'own' ? {} : { protocols, record: { ...record('other'), version } }
    const mesh = await meshes.add(name, { ...init, peers })
    mesh.events.on('notice', message => said[name].push(message))
    return mesh
  }
  const first = await add(dials === 'own' ? 'other' : 'own', [])
  const second = await add(dials, first.addresses)
  const [own, other] = dials === 'own' ? [second, first] : [first, second]
  await until(() => [own, other].every(({ peers }) => peers[0]?.state === 'incompatible'))
  await until(() => said.own.length > 0 && said.other.length > 0)
  return { own, other, said }
}

test.each(
  NAMES.flatMap(protocol => [
    { protocol, by: -1, dials: 'other' as const },
    { protocol, by: 1, dials: 'own' as const }
  ])
)(
  'a peer whose $protocol protocol differs by $by is incompatible, at both ends, when the $dials one dials',
  async ({ protocol, by, dials }) => {
    const { own, other, said } = await pair(changed(protocol, by), dials)
    const [older, newer] = [
      /^version [\d.]+, update it: its (\w+) protocol is/,
      /^version [\d.]+, update this device/
    ]
    const [seen] = own.state().peers
    expect(seen).toMatchObject({
      peerId: other.peerId,
      state: 'incompatible',
      connected: false,
      suspect: false
    })
    expect(seen?.reason).toMatch(by < 0 ? older : newer)
    expect(seen?.reason).toContain('version 0.0.9')
    expect(seen?.reason).toContain(`its ${protocol} protocol is`)
    expect(seen?.version).toBe('0.0.9')
    expect(other.state().peers[0]?.reason).toMatch(by < 0 ? newer : older)
    expect(said.own).toEqual([expect.stringContaining(`is incompatible: ${seen?.reason}`)])
    expect(said.other).toEqual([expect.stringContaining('is incompatible: version 0.1.0')])
    // Where membership and directory are the same both know what the other has; it is for show.
    const isMute = protocol === 'directory' || protocol === 'membership'
    await until(() => isMute || own.peers[0]?.record.memory.budgetBytes === 1000)
    expect(own.peers[0]).toMatchObject({
      state: 'incompatible',
      record: { name: isMute ? other.peerId.slice(-8) : 'other' }
    })
    expect(own.links).toEqual([])
  }
)

test('a peer of another version is planned with by nobody, and holds no weights for anybody', async () => {
  await using nodes = new Nodes()
  const node = await nodes.add({ name: 'own' })
  const [model] = await node.models()
  const offer = {
    ...record('other'),
    memory: { budgetBytes: 2 ** 34, freeBytes: 2 ** 34 },
    models: [{ name: 'theirs', id: 'ab'.repeat(32), layers: [[0, 3] as const] }]
  }
  const secret = NODE_SECRET
  const peers = node.addresses
  await meshes.add('other', { record: offer, protocols: changed('lease', -1), secret, peers })
  await meshes.add('same', { record: { ...offer, name: 'same', models: [] }, secret, peers })
  await until(() => node.mesh().peers.length === 2)
  await until(() => node.mesh().peers.every(({ state, rttMs }) => state === 'incompatible' || rttMs !== null))
  expect(node.mesh().peers.map(({ name, state }) => [name, state])).toEqual([
    ['other', 'incompatible'],
    ['same', 'connected']
  ])
  const { devices } = await node.scenario({ model: model!.name })
  expect(devices.map(({ name }) => name)).toEqual(['own', 'same'])
  await expect(node.manifest('theirs')).rejects.toMatchObject({ name: 'UnknownModelError' })
})

test('a node that speaks two versions of a protocol uses the newer one that both have', async () => {
  const [newest] = changed('lease', 1).lease
  const both: ProtocolIds = { ...PROTOCOLS, lease: [newest, ...PROTOCOLS.lease] }
  const old = await meshes.add('old')
  const two = await meshes.add('two', { protocols: both, peers: old.addresses })
  const next = await meshes.add('next', { protocols: changed('lease', 1), peers: two.addresses })
  const states = (mesh: Mesh) => mesh.peers.map(({ record, state }) => `${record.name} ${state}`)
  await until(() => states(old).includes('next incompatible') && states(next).includes('old incompatible'))
  await until(() => states(two).length === 2)
  expect(states(two)).toEqual(['next connected', 'old connected'])
  for (const [from, to] of [
    [two, old],
    [two, next],
    [old, two],
    [next, two]
  ] as const) {
    const lease = await from.lease(to.peerId)
    const reply = await lease.reserve({ modelId: '0'.repeat(64), range: [0, 1], maxTokens: 1, sessions: 1 })
    expect(reply).toMatchObject({ type: 'refused', code: 'memory' })
    lease.end()
  }
  await expect(next.lease(old.peerId)).rejects.toMatchObject({ name: 'PeerLostError' })
})

test('a device that was updated is a peer like any other, and one that stops is gone, not incompatible', async () => {
  const own = await meshes.add('own')
  const said: string[] = []
  own.events.on('notice', message => said.push(message))
  const home = await meshes.home()
  const before = await meshes.add('other', { home, protocols: changed('weights', -1), peers: own.addresses })
  await until(() => own.peers[0]?.state === 'incompatible')
  await before.stop()
  const after = await meshes.add('other', { home, peers: own.addresses })
  expect(after.peerId).toBe(before.peerId)
  await until(() => own.peers[0]?.state === 'connected')
  await after.stop()
  await until(() => own.peers[0]?.state === 'gone')
  expect(own.state().peers[0]).toMatchObject({ reason: 'it or the network ended the connection' })
  expect(said.length).toBe(1)
})

test('what a peer speaks is compared as numbers of versions, and foreign protocols are passed over', () => {
  const spoken = [...Object.values(PROTOCOLS).flat(), '/ipfs/id/1.0.0', '/edgeshard/other/7']
  expect(differences(spoken)).toEqual([])
  const [lease] = PROTOCOLS.lease
  const without = spoken.filter(id => id !== lease)
  const own = Number(lease.split('/').at(-1))
  expect(differences(without)).toEqual([{ protocol: 'lease', own, theirs: 0 }])
  const two = [
    '/edgeshard/lease/9',
    '/edgeshard/lease/10',
    '/edgeshard/lease/x',
    '/edgeshard/lease/99999999999'
  ]
  expect(differences([...without, ...two])).toEqual([{ protocol: 'lease', own, theirs: 10 }])
})
