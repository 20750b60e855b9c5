import { expect, test } from 'vitest'
import { Introductions } from '../../../node/mesh/introductions.ts'

const addresses = ['/ip4/10.0.0.3/tcp/7446']
const everyone = () => true

test('who is known from several is listed once, and no longer when nobody is connected to it', () => {
  const introductions = new Introductions()
  introductions.told('B', [{ peerId: 'C', name: 'c', addresses }])
  introductions.told('D', [{ peerId: 'C', name: 'another name', addresses: [] }])
  expect(introductions.unreached(everyone)).toEqual([
    { peerId: 'C', name: 'c', addresses, knownFrom: ['B', 'D'] }
  ])
  expect(introductions.unreached(peerId => peerId !== 'C')).toEqual([])
  introductions.told('B', [])
  introductions.left('D')
  expect(introductions.unreached(everyone)).toEqual([])
})

test('a name is one short line, whatever the one who passes it on made of it', () => {
  const introductions = new Introductions()
  introductions.told('B', [{ peerId: 'C', name: `\u001b[2Jbox\n\u202e${'x'.repeat(200)}`, addresses }])
  const { name } = introductions.unreached(everyone)[0]!
  expect(name).toMatch(/^ \[2Jbox x+…$/)
  expect(name.length).toBe(64)
})

test('two members are apart where neither names the other one, once they have had the time to meet', () => {
  let nowMs = 0
  const introductions = new Introductions(() => nowMs)
  const name = (peerId: string) => ({ peerId, name: peerId, addresses })
  for (const peerId of ['B', 'C', 'D']) introductions.came(peerId)
  introductions.told('B', [name('D')])
  expect(introductions.apart).toEqual([])
  nowMs = 6000
  expect(introductions.apart).toEqual([
    ['B', 'C'],
    ['C', 'D']
  ])
  introductions.told('C', [name('B'), name('D')])
  expect(introductions.apart).toEqual([])
  // Their link breaks: both say so.
  introductions.told('B', [])
  introductions.told('C', [name('D')])
  expect(introductions.apart).toEqual([
    ['B', 'C'],
    ['B', 'D']
  ])
  introductions.left('B')
  introductions.came('B')
  expect(introductions.apart).toEqual([])
})

test('of a member whose list is full nothing follows from who is not in it', () => {
  let nowMs = 0
  const introductions = new Introductions(() => nowMs)
  const many = Array.from({ length: 64 }, (_, i) => ({ peerId: `x${i}`, name: 'x', addresses }))
  for (const peerId of ['B', 'C']) introductions.came(peerId)
  introductions.told('B', many)
  nowMs = 6000
  expect(introductions.apart).toEqual([])
  introductions.told('B', many.slice(1))
  expect(introductions.apart).toEqual([['B', 'C']])
})
