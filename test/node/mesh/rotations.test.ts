import { setTimeout as delay } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import { Rotations, type SecretState } from '../../../node/mesh/rotations.ts'
import type { Rotation } from '../../../protocols/membership/index.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'
import { Random } from '../../protocols/mutate.ts'

const MEMBERS = ['a', 'b', 'c', 'd'].map(peerIdOf)
const [A, B, C, D] = MEMBERS as [string, string, string, string]
/** All own the mesh but the last. */
const OWNERS = [A, B, C]

const signed = (rotation: Omit<Rotation, 'signature'>): Rotation => ({
  ...rotation,
  signature: `by ${rotation.by}`
})
const isValid = ({ by, signature }: Rotation) => OWNERS.includes(by) && signature === `by ${by}`
const rotation = (by: string, epoch: number, secret: string) => signed({ by, epoch, secret })

/** Members that are all connected, over a network that takes its time with every message. */
function mesh(random: Random, stateOf: (name: string) => Partial<SecretState> = () => ({})) {
  const cut: string[] = []
  const notices: string[] = []
  const nodes = new Map<string, Rotations>()
  for (const name of MEMBERS) {
    const components = {
      host: {
        peerId: name,
        connected: MEMBERS.filter(other => other !== name),
        disconnect: (other: string) => void cut.push(`${name} dropped ${other}`)
      },
      membership: {
        tell: async (other: string, news: Rotation) => {
          await delay(random.next() * 10)
          const reply = await nodes.get(other)!.onRotation(name, news)
          await delay(random.next() * 10)
          return reply
        }
      },
      sign: signed,
      isValid,
      save: async () => {},
      nameOf: (peerId: string) => 'abcd'[MEMBERS.indexOf(peerId)] ?? peerId,
      onNotice: (text: string) => void notices.push(text),
      onKeys: async () => {}
    }
    nodes.set(name, new Rotations({ secret: new Uint8Array(32), epoch: 0, ...stateOf(name) }, components))
  }
  return { cut, notices, nodes: [...nodes.values()] }
}

test('changes at the same time end with one secret everywhere and nobody cut off, whatever overtakes what', async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const { cut, nodes } = mesh(new Random(seed))
    const made = nodes.slice(0, 1 + (seed % 3)).map(node => node.rotate())
    const reports = (await Promise.allSettled(made)).flatMap(result =>
      result.status === 'fulfilled' ? [result.value] : []
    )
    expect(cut, `seed ${seed}`).toEqual([])
    const secrets = nodes.map(({ state }) => Buffer.from(state.secret).toString('hex'))
    expect(new Set(secrets).size, `seed ${seed}`).toBe(1)
    expect(nodes[0]!.state.epoch).toBe(1)
    // Whoever was overtaken is told so; one was not.
    expect(reports.length, `seed ${seed}`).toBe(1)
    for (const { reached, missed } of reports) expect([reached.length, missed]).toEqual([3, []])
  }
})

test('a secret that no owner has signed is refused, and so is one from far ahead', async () => {
  const { nodes } = mesh(new Random(1))
  const a = nodes[0]!
  const secret = 'ab'.repeat(32)
  for (const forged of [
    rotation(D, 1, secret),
    { ...rotation(D, 1, secret), by: B },
    { ...rotation(B, 1, secret), by: C }
  ]) {
    expect(await a.onRotation(D, forged)).toMatchObject({
      type: 'refused',
      reason: 'no owner of the mesh has signed that secret'
    })
  }
  expect(await a.onRotation(B, rotation(B, 17, secret))).toMatchObject({ type: 'refused' })
  expect(a.state).toMatchObject({ epoch: 0, secret: new Uint8Array(32) })
  expect(await a.onRotation(B, rotation(B, 16, secret))).toEqual({ type: 'adopted' })
  expect(await a.onRotation(C, rotation(C, 1, '0'.repeat(64)))).toEqual({
    type: 'later',
    rotation: rotation(B, 16, secret)
  })
})

test('whoever of a pair that meets was away, or has just joined, has the later secret then', async () => {
  const [low, high] = ['01'.repeat(32), '02'.repeat(32)]
  const state = ({ epoch, secret, by, signature }: Rotation): SecretState => ({
    epoch,
    secret: new Uint8Array(Buffer.from(secret, 'hex')),
    signed: { by, signature }
  })
  for (const [ofA, ofB] of [
    [rotation(C, 3, high), rotation(C, 3, low)],
    [rotation(C, 3, low), rotation(C, 3, high)],
    [rotation(C, 2, high), rotation(C, 3, low)],
    [rotation(C, 3, low), rotation(C, 2, high)]
  ] as const) {
    const { nodes } = mesh(new Random(1), name => state(name === A ? ofA : ofB))
    const [a, b] = nodes as [Rotations, Rotations]
    const winner = ofA.epoch === ofB.epoch ? 3 : Math.max(ofA.epoch, ofB.epoch)
    a.greet(B, b.state.epoch)
    b.greet(A, a.state.epoch)
    const right = ofA.epoch === ofB.epoch ? high : low
    await vi.waitFor(() => {
      for (const { state } of [a, b]) {
        expect([state.epoch, Buffer.from(state.secret).toString('hex')]).toEqual([winner, right])
      }
    })
  }
})

test('who makes one change too many is told to wait, and is cut off by nobody', async () => {
  const { nodes, cut } = mesh(new Random(1))
  for (let i = 0; i < 6; i++) await nodes[0]!.rotate()
  await expect(nodes[0]!.rotate()).rejects.toThrow(/wait a minute/)
  expect(nodes.map(({ state }) => state.epoch)).toEqual([6, 6, 6, 6])
  expect(cut).toEqual([])
})

test('the notice names who changed the secret, and who told of it where that is another', async () => {
  const { nodes, notices } = mesh(new Random(1))
  await nodes[0]!.rotate()
  const line = 'changed the secret of the mesh: devices that are off now need a new ticket'
  expect(notices).toContain(`a ${line}`)
  const told = mesh(new Random(1))
  await told.nodes[0]!.onRotation(B, rotation(C, 1, 'ab'.repeat(32)))
  expect(told.notices[0]).toBe(`c (by b) ${line}`)
})
