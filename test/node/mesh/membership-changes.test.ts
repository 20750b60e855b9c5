import { setTimeout as delay } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import { MembershipChanges } from '../../../node/mesh/membership-changes.ts'
import { MAX_BANNED } from '../../../protocols/membership/constants.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'
import { Random } from '../../protocols/mutate.ts'

const MEMBERS = ['a', 'b', 'c', 'd'].map(peerIdOf)
const [A, B, C, D] = MEMBERS as [string, string, string, string]
const OUTSIDER = peerIdOf('x')

/** Members that are all connected, over a network that takes its time with every message. */
function mesh(
  home: string,
  random: Random,
  banned: string[] = [],
  membershipOf: (name: string) => { epoch: number; banned: string[] } = () => ({ epoch: 0, banned })
) {
  const cut: string[] = []
  const notices: string[] = []
  const nodes = new Map<string, MembershipChanges>()
  for (const name of MEMBERS) {
    const components = {
      home,
      host: {
        peerId: name,
        connected: MEMBERS.filter(other => other !== name),
        disconnect: (other: string) => void cut.push(`${name} dropped ${other}`)
      },
      membership: {
        tell: async (other: string, news: Parameters<MembershipChanges['onChange']>[1]) => {
          await delay(random.next() * 10)
          const reply = await nodes.get(other)!.onChange(name, news)
          await delay(random.next() * 10)
          return reply
        }
      },
      nameOf: (peerId: string) => 'abcdx'[[...MEMBERS, OUTSIDER].indexOf(peerId)] ?? peerId,
      onNotice: (text: string) => void notices.push(text),
      onKeys: async () => {}
    }
    const membership = { secret: new Uint8Array(32), ...membershipOf(name) }
    nodes.set(name, new MembershipChanges(membership, components))
  }
  return { cut, notices, nodes: [...nodes.values()] }
}

test('changes at the same time end with one secret everywhere and nobody cut off, whatever overtakes what', async () => {
  await using folder = await temporaryFolder()
  for (let seed = 1; seed <= 20; seed++) {
    const { cut, nodes } = mesh(folder.path, new Random(seed))
    const reports = await Promise.all(nodes.slice(0, 1 + (seed % 4)).map(node => node.rotate()))
    expect(cut, `seed ${seed}`).toEqual([])
    const secrets = nodes.map(({ membership }) => Buffer.from(membership.secret).toString('hex'))
    expect(new Set(secrets).size, `seed ${seed}`).toBe(1)
    expect(nodes[0]!.membership.epoch).toBe(1)
    for (const { reached, missed } of reports) expect([reached.length, missed]).toEqual([3, []])
  }
})

test('a banned member is refused and learns nothing; a secret from far ahead is refused', async () => {
  await using folder = await temporaryFolder()
  const [a] = mesh(folder.path, new Random(1)).nodes
  const news = { epoch: 17, secret: 'ab'.repeat(32), banned: [] }
  expect(await a!.onChange(B, news)).toEqual({ type: 'refused' })
  await a!.rotate({ ban: B })
  expect(await a!.onChange(B, { ...news, epoch: 1, secret: '0'.repeat(64) })).toEqual({ type: 'refused' })
  const { epoch, banned } = a!.membership
  expect(await a!.onChange(C, { ...news, epoch: 1, secret: '0'.repeat(64) })).toMatchObject({
    type: 'later',
    rotation: { epoch, banned }
  })
})

test("whoever of a pair that meets was away, or has just joined, has the other one's list then", async () => {
  await using folder = await temporaryFolder()
  for (const [ofA, ofB] of [
    [
      { epoch: 3, banned: [OUTSIDER] },
      { epoch: 3, banned: [] }
    ],
    [
      { epoch: 3, banned: [] },
      { epoch: 3, banned: [OUTSIDER] }
    ],
    [
      { epoch: 2, banned: [] },
      { epoch: 3, banned: [OUTSIDER] }
    ],
    [
      { epoch: 3, banned: [OUTSIDER] },
      { epoch: 2, banned: [] }
    ]
  ] as const) {
    const known = (name: string) => (name === A ? ofA : ofB)
    const { nodes, cut } = mesh(folder.path, new Random(1), [], name => ({
      epoch: known(name).epoch,
      banned: [...known(name).banned]
    }))
    const [a, b] = nodes as [MembershipChanges, MembershipChanges]
    a.greet(B)
    b.greet(A)
    await vi.waitFor(() =>
      expect([a, b].map(({ membership }) => membership.banned)).toEqual([[OUTSIDER], [OUTSIDER]])
    )
    expect(cut.filter(text => !text.endsWith(OUTSIDER))).toEqual([])
  }
})

test('who makes one change too many is told to wait, and is cut off by nobody', async () => {
  await using folder = await temporaryFolder()
  const { nodes, cut } = mesh(folder.path, new Random(1))
  for (let i = 0; i < 6; i++) await nodes[0]!.rotate()
  await expect(nodes[0]!.rotate()).rejects.toThrow(/wait a minute/)
  expect(nodes.map(({ membership }) => membership.epoch)).toEqual([6, 6, 6, 6])
  expect(cut).toEqual([])
})

test('the notice names who changed the mesh and whom that bans', async () => {
  await using folder = await temporaryFolder()
  const { nodes, notices } = mesh(folder.path, new Random(1))
  await nodes[0]!.rotate({ ban: OUTSIDER })
  const line = 'banned x and changed the secret of the mesh: devices that are off now need a new ticket'
  expect(notices.map(text => text.slice(2))).toEqual([line, line, line])
  expect(notices).toContain(`a ${line}`)
})

test('a change that bans this device too is not adopted, so nobody can ban everybody at once', async () => {
  await using folder = await temporaryFolder()
  const { nodes, notices, cut } = mesh(folder.path, new Random(1))
  const news = { epoch: 1, secret: 'ff'.repeat(32), banned: [A, B, C, D] }
  for (const node of nodes) expect(await node.onChange(D, news)).toEqual({ type: 'refused' })
  expect(notices[0]).toBe(
    'd bans this device from the mesh: who follows cuts it off until it joins with a new ticket'
  )
  expect(nodes.map(({ membership }) => membership.epoch)).toEqual([0, 0, 0, 0])
  expect(cut).toEqual([])
})

test('a ban of what is no device, of itself or of one too many is refused and changes nothing', async () => {
  await using folder = await temporaryFolder()
  const full = Array.from({ length: MAX_BANNED }, (_, i) => peerIdOf(`x${i}`))
  const [a] = mesh(folder.path, new Random(1), full).nodes
  await expect(a!.rotate({ ban: B.slice(0, -1) })).rejects.toThrow(/is no peer id/)
  await expect(a!.rotate({ ban: A })).rejects.toThrow(/cannot ban itself/)
  await expect(a!.rotate({ ban: B })).rejects.toThrow(/256 devices are banned.*mesh unban/)
  expect(a!.membership).toMatchObject({ epoch: 0, banned: full })
  await a!.unban(full[0]!)
  await a!.rotate({ ban: B })
  expect(a!.isBanned(B)).toBe(true)
})

test('a peer is taken off the list everywhere, with the same secret and nobody cut off', async () => {
  await using folder = await temporaryFolder()
  for (let seed = 1; seed <= 10; seed++) {
    const { nodes, cut } = mesh(folder.path, new Random(seed), [OUTSIDER, peerIdOf('y')])
    const others = nodes.slice(1, 1 + (seed % 3))
    const changes = [nodes[0]!.unban(OUTSIDER), ...others.map(other => other.unban(peerIdOf('y')))]
    const lost = (await Promise.allSettled(changes)).filter(({ status }) => status === 'rejected').length
    const lists = nodes.map(({ membership: { epoch, banned } }) => JSON.stringify([epoch, banned]))
    expect(new Set(lists).size, `seed ${seed}`).toBe(1)
    // Of two different changes at once one wins; the node that lost is told.
    const { banned, secret } = nodes[0]!.membership
    expect(banned.length).toBe(1)
    expect(lost).toBe(others.length === 0 ? 0 : banned[0] === OUTSIDER ? 1 : others.length)
    expect(secret).toEqual(new Uint8Array(32))
    expect(cut.filter(text => !text.endsWith(OUTSIDER) && !text.endsWith(peerIdOf('y')))).toEqual([])
  }
})
