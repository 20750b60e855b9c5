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
