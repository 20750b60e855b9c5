import { expect, test } from 'vitest'
import { Roll } from '../../../node/mesh/roll.ts'
import { MAX_BANNED, MAX_COUNTER, MAX_OWNERS } from '../../../protocols/membership/constants.ts'
import { lineOf, type Statement, type Unsigned } from '../../../protocols/membership/index.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'

const ROOT = peerIdOf('root')
const [A, B, C, D] = ['a', 'b', 'c', 'd'].map(peerIdOf) as [string, string, string, string]

const signed = (statement: Unsigned): Statement =>
  ({ ...statement, signature: lineOf(statement) }) as Statement

/** What a device makes of some statements, and how often it has learnt something. */
function rollOf(peerId: string, statements: readonly Statement[] = []) {
  const changes = { count: 0 }
  const roll = new Roll({
    peerId,
    mesh: `${ROOT}.${'00'.repeat(16)}`,
    statements,
    sign: signed,
    isSigned: statement => statement.signature === lineOf(statement),
    onChange: () => void changes.count++
  })
  return { roll, changes }
}

test('who made the mesh admits, bans with all that goes along, keeps some of it, and lets in again', () => {
  const { roll, changes } = rollOf(ROOT)
  roll.admit(A)
  roll.take([B, C].map(device => signed({ type: 'admit', device, by: A, counter: 0 })))
  expect(roll.known.devices).toEqual([ROOT, A, B, C])
  expect(changes.count).toBe(2)
  roll.admit(A)
  expect(changes.count).toBe(2)
  roll.ban(A, [C])
  expect([roll.known.devices, roll.known.banned]).toEqual([[ROOT, C], [A]])
  expect(roll.refusalOf(A)?.code).toBe('banned')
  expect(roll.refusalOf(B)?.code).toBe('not-admitted')
  expect(roll.refusalOf(C)).toBeNull()
  roll.unban(A)
  expect(roll.known.devices.toSorted()).toEqual([ROOT, A, C].toSorted())
})

test('a device that an owner admits again depends no longer on who admitted it before', () => {
  const { roll } = rollOf(ROOT)
  roll.admit(A)
  roll.take([signed({ type: 'admit', device: B, by: A, counter: 0 })])
  expect(roll.known.dependingOn(A)).toEqual([B])
  roll.admit(B)
  expect(roll.known.dependingOn(A)).toEqual([])
})

test('what no mesh can have is refused, and changes nothing', () => {
  const { roll, changes } = rollOf(ROOT)
  for (const device of [A, B]) roll.admit(device)
  roll.promote(A)
  const before = changes.count
  expect(() => roll.ban('x')).toThrow(/'x' is no peer id/)
  expect(() => roll.ban(ROOT)).toThrow('a device cannot ban itself')
  expect(() => roll.ban(B, [B])).toThrow('cannot be banned and kept')
  expect(() => roll.promote(D)).toThrow(/cannot be an owner: no device that is in the mesh has admitted it/)
  roll.promote(A)
  expect(changes.count).toBe(before)
  const owner = rollOf(A, roll.known.all).roll
  expect(() => owner.ban(ROOT)).toThrow('nobody can ban the device that made the mesh')
  expect(() => rollOf(D).roll.admit(C)).toThrow('this device is not admitted itself')
})

test('owners, bans and counters have an end, and who meets it is told what to do', () => {
  const { roll } = rollOf(ROOT)
  for (let i = 0; i <= MAX_OWNERS; i++) roll.admit(peerIdOf(`o${i}`))
  for (let i = 0; i < MAX_OWNERS; i++) roll.promote(peerIdOf(`o${i}`))
  expect(() => roll.promote(peerIdOf(`o${MAX_OWNERS}`))).toThrow(/has 15 owners, which is as many as may be/)
  for (let i = 0; i < MAX_BANNED; i++) roll.ban(peerIdOf(`x${i}`))
  expect(() => roll.ban(B)).toThrow(/has banned 256 devices, .* another owner has to/)

  const wild = peerIdOf('o0')
  const other = rollOf(peerIdOf('o1'), roll.known.all).roll
  other.take([signed({ type: 'ban', device: A, by: wild, counter: MAX_COUNTER })])
  expect(() => other.unban(A)).toThrow(/has to ban that owner/)
})

test('what an owner has banned stays so in the name of who bans that owner', () => {
  const { roll } = rollOf(ROOT)
  for (const device of [A, B, C]) roll.admit(device)
  roll.promote(A)
  const owner = rollOf(A, roll.known.all).roll
  owner.ban(B)
  roll.take(owner.known.all)
  expect(roll.known.bannedBy(B)).toBe(A)
  roll.ban(A)
  expect([roll.known.bannedBy(B), roll.known.devices]).toEqual([ROOT, [ROOT, C]])
})

test('a peer of another mesh is told so, and nothing of its proof is looked at', () => {
  const { roll, changes } = rollOf(ROOT)
  const proof = [signed({ type: 'admit', device: A, by: ROOT, counter: 0 })]
  expect(roll.judge(A, { mesh: `${A}.${'00'.repeat(16)}`, proof })?.code).toBe('other-mesh')
  expect(changes.count).toBe(0)
  expect(roll.judge(A, { mesh: roll.proof.mesh, proof })).toBeNull()
  // Nor is one listened to that is banned, whatever it signs.
  roll.ban(A)
  const before = changes.count
  const more = [signed({ type: 'admit', device: B, by: A, counter: 0 })]
  expect(roll.judge(A, { mesh: roll.proof.mesh, proof: more })?.code).toBe('banned')
  expect(changes.count).toBe(before)
})
