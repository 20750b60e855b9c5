import { beforeEach, describe, expect, test } from 'vitest'
import { Copies, copyFinding } from '../../../node/mesh/copies.ts'
import { openName, sealName } from '../../../node/mesh/sealed-name.ts'
import { Twins } from '../../../node/mesh/twins.ts'

const OWN = '/ip4/10.0.0.1/tcp/7446'
const COPY = '/ip4/10.0.0.2/tcp/7446'
const UNCLEAR = '/ip4/10.0.0.4/tcp/7446'

let asked: string[]
let notices: string[]
let nowMs: number
let copies: Copies
beforeEach(() => {
  asked = []
  notices = []
  nowMs = 0
  copies = new Copies({
    home: '/home',
    own: () => [OWN],
    provesSelf: async address => {
      asked.push(address)
      if (address === UNCLEAR) return 'unclear'
      return address === COPY ? 'yes' : 'no'
    },
    pause: async () => {},
    onNotice: message => notices.push(message),
    now: () => nowMs
  })
})

describe('a copy of this home', () => {
  test('is named once, with what to do, when a handshake has proven it', async () => {
    await copies.heard([OWN, COPY], 'attic')
    await copies.heard([COPY], 'attic')
    expect(asked).toEqual([COPY])
    expect(copies.found).toEqual([{ name: 'attic', address: COPY }])
    expect(notices).toEqual([
      expect.stringMatching(
        /copy of another device's \(attic at \/ip4\/10\.0\.0\.2.*remove identity\.key.*\/home/
      )
    ])
    expect(copyFinding({ name: undefined, address: COPY }, '/h').join()).toContain(`(${COPY})`)
  })

  test('is named as soon as somebody says its name', async () => {
    await copies.heard([COPY])
    await copies.heard([COPY], 'attic')
    await copies.heard([COPY], 'other')
    expect(copies.found).toEqual([{ name: 'attic', address: COPY }])
    expect(notices).toHaveLength(2)
  })

  test('is none for the words of a stranger, who proves nothing, and none at an address that is none', async () => {
    await copies.heard(['/ip4/10.0.0.3/tcp/1', '/dns4/evil/tcp/1', 'x'], 'evil')
    expect(asked).toEqual(['/ip4/10.0.0.3/tcp/1'])
    expect([copies.found, notices]).toEqual([[], []])
  })

  test('is looked for again after a minute, and forgotten where it is met no more', async () => {
    await copies.heard([COPY], 'attic')
    nowMs = 61_000
    await copies.heard([COPY], 'attic')
    expect(asked).toHaveLength(2)
    nowMs = 61_000 + 601_000
    expect(copies.found).toEqual([])
    expect(notices).toHaveLength(1)
  })

  test('is asked again soon where it may have been this node itself', async () => {
    for (nowMs of [0, 1_000, 6_000]) await copies.heard([UNCLEAR])
    expect(asked).toHaveLength(2)
    expect(copies.found).toEqual([])
  })

  test('costs no more than 64 dials a minute, whatever is announced', async () => {
    const addresses = Array.from({ length: 500 }, (_, i) => `/ip4/10.1.${i >> 8}.${i & 255}/tcp/1`)
    await copies.heard(addresses)
    expect(asked).toHaveLength(64)
    nowMs = 61_000
    await copies.heard([COPY])
    expect(copies.found).toHaveLength(1)
  })
})

describe('two under one id', () => {
  const [a, b, c] = ['a', 'b', 'c'].map(name => ({ start: name, name }))

  test('are known when one speaks that another had taken the place of', () => {
    const twins = new Twins()
    expect([a, a, b, b].map(voice => twins.heard('peer', voice!))).toEqual(Array(4).fill(undefined))
    expect(twins.heard('peer', a!)).toEqual(b)
    expect(twins.heard('peer', b!)).toEqual(a)
  })

  test('are not one device that is started again and again', () => {
    const twins = new Twins()
    for (const voice of [a, b, c])
      for (let i = 0; i < 3; i++) expect(twins.heard('peer', voice!)).toBeUndefined()
    expect(twins.heard('other', a!)).toBeUndefined()
  })
})

describe('a sealed name', () => {
  const key = new Uint8Array(32).fill(3)

  test.each(['desk', '', 'ü'.repeat(40), 'x'.repeat(64)])('%s is read by who has the key alone', name => {
    const sealed = sealName(key, name)
    expect(name.startsWith(openName(key, sealed)!)).toBe(true)
    expect(openName(key, sealed)!.length).toBe(Math.min(name.length, 64))
    expect(openName(new Uint8Array(32), sealed)).toBeUndefined()
    expect(sealed.length).toBe(sealName(key, 'other').length)
    expect(sealed).not.toBe(sealName(key, name))
  })

  test('is nothing where it was changed or is none', () => {
    const sealed = sealName(key, 'desk')
    for (const other of [
      '',
      'x',
      sealed.slice(1),
      `A${sealed.slice(1)}`,
      `B${sealed.slice(1)}`,
      'A'.repeat(sealed.length)
    ])
      if (other !== sealed) expect(openName(key, other)).toBeUndefined()
  })

  test('fits into a line of an announcement', () => {
    expect(sealName(key, 'x').length + 2).toBeLessThanOrEqual(255)
  })
})
