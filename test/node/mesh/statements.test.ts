import { describe, expect, test } from 'vitest'
import { StatementSet } from '../../../node/mesh/statements.ts'
import {
  MAX_BANNED,
  MAX_CHAIN,
  MAX_COUNTER,
  MAX_DEVICES,
  MAX_DORMANT,
  MAX_PROOF_STATEMENTS
} from '../../../protocols/membership/constants.ts'
import { lineOf, type Statement, type Unsigned } from '../../../protocols/membership/index.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'

const ROOT = peerIdOf('root')
const [A, B, C, D] = ['a', 'b', 'c', 'd'].map(peerIdOf) as [string, string, string, string]
const MESH = `${ROOT}.${'00'.repeat(16)}`

const signed = (statement: Unsigned): Statement =>
  ({ ...statement, signature: lineOf(statement) }) as Statement
const admit = (device: string, by: string, counter = 0) => signed({ type: 'admit', device, by, counter })
const owner = (device: string) => signed({ type: 'owner', device, by: ROOT })
const ban = (device: string, by: string, counter = 1) => signed({ type: 'ban', device, by, counter })
const unban = (device: string, by: string, counter: number) => signed({ type: 'unban', device, by, counter })

function set(...statements: Statement[]): StatementSet {
  const made = new StatementSet(MESH, statement => statement.signature === lineOf(statement))
  made.merge(statements)
  return made
}

describe('a set of statements', () => {
  test('lets in whom a chain of admissions leads to from the founder, and nobody else', () => {
    const known = set(admit(A, ROOT), admit(B, A), admit(D, C))
    expect(known.devices).toEqual([ROOT, A, B])
    expect(set(admit(B, A)).devices).toEqual([ROOT])
    expect(set({ ...admit(A, ROOT), signature: 'forged' }).devices).toEqual([ROOT])
    expect(set({ ...admit(A, B), by: ROOT }).devices).toEqual([ROOT])
    expect(set(signed({ type: 'owner', device: A, by: A })).owners).toEqual([ROOT])
  })

  test('puts a banned device out with all that only it has let in, before the ban and after it', () => {
    const known = set(admit(A, ROOT), admit(B, A), admit(C, A), admit(C, ROOT), ban(A, ROOT))
    expect(known.devices).toEqual([ROOT, C])
    expect(known.isBanned(A)).toBe(true)
    known.merge([admit(D, A), admit(B, A, MAX_COUNTER)])
    expect(known.devices).toEqual([ROOT, C])
    expect(set(admit(A, ROOT), admit(B, A), admit(D, B), admit(C, ROOT)).dependingOn(A)).toEqual([B, D])
  })

  test('lets a device in again without what it had let in, in whatever order that comes', () => {
    const said = [admit(A, ROOT), admit(B, A), ban(A, ROOT, 1), unban(A, ROOT, 2)]
    for (const order of [said, said.toReversed(), [said[3]!, said[1]!, said[0]!, said[2]!]]) {
      const known = set()
      // What leads nowhere yet is dropped, and comes again when others tell all they know.
      for (const statement of [...order, ...order]) known.merge([statement])
      expect(known.devices).toEqual([ROOT, A])
      known.merge([admit(C, A, known.admitCounter(A))])
      expect(known.devices).toEqual([ROOT, A, C])
    }
  })

  test('counts the highest counter, of two equal ones the ban, and nothing that no owner has signed', () => {
    expect(set(admit(A, ROOT), ban(A, ROOT, 3), unban(A, ROOT, 2)).isIn(A)).toBe(false)
    expect(set(owner(B), admit(A, ROOT), ban(A, ROOT, 2), unban(A, B, 2)).isIn(A)).toBe(false)
    expect(set(owner(B), admit(A, ROOT), ban(A, B, 1), unban(A, ROOT, 2)).isIn(A)).toBe(true)
    expect(set(admit(A, ROOT), admit(B, ROOT), ban(A, B)).isIn(A)).toBe(true)
  })

  test('keeps the founder in whoever bans it, and an owner whom only another owner bans', () => {
    const known = set(owner(A), owner(B), ban(ROOT, A), ban(B, A), ban(A, A))
    expect(known.devices.toSorted()).toEqual([A, B, ROOT].toSorted())
    known.merge([ban(A, ROOT)])
    expect(known.devices).toEqual([ROOT, B])
  })

  test('takes every word from an owner that the founder bans, however high it has counted', () => {
    const known = set(owner(A), admit(B, ROOT), ban(B, A, MAX_COUNTER), admit(C, A))
    expect(known.devices).toEqual([ROOT, A, C])
    expect(known.nextCounter(B, ROOT)).toBe(MAX_COUNTER + 1)
    known.merge([ban(A, ROOT)])
    expect(known.devices).toEqual([ROOT, B])
    expect(known.nextCounter(B, ROOT)).toBe(1)
  })

  test('proves a device to who knows nothing, and to who knows only that it was banned', () => {
    const known = set(owner(A), admit(B, A), admit(C, B), ban(C, ROOT, 1), unban(C, A, 2), admit(D, ROOT))
    for (const reader of [set(), set(owner(A), admit(B, A), admit(C, B), ban(C, ROOT, 1))]) {
      reader.merge(known.proofOf(C))
      expect(reader.isIn(C)).toBe(true)
    }
    // Whose ban counts for nothing is part of the proof, too.
    const voided = set(owner(A), owner(B), admit(D, B), ban(D, A), ban(A, ROOT))
    const reader = set(owner(A), owner(B), admit(D, B), ban(D, A))
    expect(reader.isIn(D)).toBe(false)
    reader.merge(voided.proofOf(D))
    expect(reader.isIn(D)).toBe(true)
    expect(known.proofOf(peerIdOf('x'))).toEqual([])
  })

  test('looks at one signature at most of who is in no chain, and at nothing behind one that is wrong', () => {
    const looked: Statement[] = []
    const known = new StatementSet(MESH, statement => {
      looked.push(statement)
      return statement.signature === lineOf(statement)
    })
    known.merge(Array.from({ length: 64 }, (_, i) => admit(peerIdOf(`x${i}`), i % 2 === 0 ? A : B)))
    expect(looked).toEqual([])
    const forged = { ...admit(A, ROOT), signature: 'forged' }
    known.merge([forged, admit(A, ROOT), admit(B, A)])
    expect([looked.length, known.devices]).toEqual([1, [ROOT]])
    // In the order in which a set tells all that it knows, all of it is taken.
    const said = [admit(A, ROOT), admit(B, A), admit(C, B), owner(D), ban(B, D)]
    const other = set(owner(D), ...said)
    known.merge(other.all)
    expect(known.digest).toBe(other.digest)
  })

  test('has no room for a flood: not of devices, chains, bans or what was let in by a banned one', () => {
    const many = (count: number, by: string) =>
      Array.from({ length: count }, (_, i) => admit(peerIdOf(`x${i}`), by))
    const flood = set(admit(A, ROOT), ...many(3 * MAX_DEVICES, A))
    expect(flood.devices.length).toBe(MAX_DEVICES)
    expect(flood.all.length).toBeLessThanOrEqual(MAX_DEVICES + MAX_DORMANT)
    // What owners admit comes before what others do.
    flood.merge([admit(B, ROOT)])
    expect(flood.isIn(B)).toBe(true)
    flood.merge([ban(A, ROOT)])
    expect(flood.devices).toEqual([ROOT, B])
    expect(flood.all.length).toBeLessThanOrEqual(MAX_DORMANT + 3)

    const chain = Array.from({ length: 40 }, (_, i) => admit(peerIdOf(`x${i + 1}`), peerIdOf(`x${i}`)))
    const long = set(admit(peerIdOf('x0'), ROOT), ...chain)
    expect(long.devices.length).toBe(MAX_CHAIN + 1)
    for (const device of long.devices)
      expect(long.proofOf(device).length).toBeLessThanOrEqual(MAX_PROOF_STATEMENTS)

    const bans = Array.from({ length: 2 * MAX_BANNED }, (_, i) => ban(peerIdOf(`x${i}`), A))
    expect(set(owner(A), ...bans).all.length).toBe(1 + MAX_BANNED)
    expect(set(admit(A, ROOT), ...bans).all.length).toBe(1)
  })
})
