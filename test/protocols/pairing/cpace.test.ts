import { hash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { ristretto255 } from '@noble/curves/ed25519.js'
import { describe, expect, test } from 'vitest'
import {
  calculateGenerator,
  confirmationTag,
  generatorString,
  lvCat,
  sampleScalar,
  scalarMult,
  scalarMultVfy,
  sessionKey
} from '../../../protocols/pairing/cpace.ts'

interface Side {
  scalar: string
  associated: string
  share: string
}

interface Vectors {
  password: string
  channel: string
  sid: string
  generator: string
  a: Side
  b: Side
  secret: string
  key: string
  valid: { scalar: string; share: string; secret: string }
  invalidShares: string[]
}

const vectors: Vectors = JSON.parse(await readFile(new URL('../vectors/cpace.json', import.meta.url), 'utf8'))
const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'))
const hex = (of: Uint8Array) => Buffer.from(of).toString('hex')
const ascii = (text: string) => new Uint8Array(Buffer.from(text, 'ascii'))

const [password, channel, sid] = [bytes(vectors.password), bytes(vectors.channel), bytes(vectors.sid)]

describe("the draft's vectors", () => {
  test('lengths are LEB128', () => {
    expect(hex(lvCat(ascii('1234'), ascii('5'), ascii(''), ascii('678')))).toBe('043132333401350003363738')
    expect(hex(lvCat(new Uint8Array(128)).subarray(0, 3))).toBe('800100')
  })

  test('the generator', () => {
    const text = generatorString(password, channel, sid)
    const padding = '00'.repeat(100)
    expect(hex(text)).toBe(
      `11435061636552697374726574746f32353508${vectors.password}64${padding}18${vectors.channel}10${vectors.sid}`
    )
    expect(hex(calculateGenerator(password, channel, sid))).toBe(vectors.generator)
  })

  test.each(['a', 'b'] as const)('the share of %s', side => {
    const { scalar, share } = vectors[side]
    expect(hex(scalarMult(bytes(scalar), bytes(vectors.generator)))).toBe(share)
  })

  test('the secret point and the session key', () => {
    const { a, b, secret, key, valid } = vectors
    expect(hex(scalarMultVfy(bytes(a.scalar), bytes(b.share)))).toBe(secret)
    expect(hex(scalarMultVfy(bytes(b.scalar), bytes(a.share)))).toBe(secret)
    expect(hex(scalarMultVfy(bytes(valid.scalar), bytes(valid.share)))).toBe(valid.secret)
    const sent = ({ share, associated }: Side) => ({ share: bytes(share), associated: bytes(associated) })
    expect(hex(sessionKey(sid, bytes(secret), sent(a), sent(b)))).toBe(key)
    expect(hex(sessionKey(sid, bytes(secret), sent(b), sent(a)))).not.toBe(key)
  })

  test.each(vectors.invalidShares)('%s is refused', share => {
    expect(() => scalarMultVfy(bytes(vectors.valid.scalar), bytes(share))).toThrow(
      /no point that a code makes/
    )
  })
})

test('scalars are below 2^252, and no two are the same', () => {
  const scalars = Array.from({ length: 64 }, sampleScalar)
  expect(scalars.every(scalar => scalar.byteLength === 32 && scalar[31]! < 16)).toBe(true)
  expect(new Set(scalars.map(hex)).size).toBe(64)
})

describe('who does not know the code', () => {
  const code = '271828'
  const run = (guess: string) => {
    const scalars = { joiner: sampleScalar(), middle: sampleScalar() }
    const joinerShare = scalarMult(scalars.joiner, calculateGenerator(ascii(code), channel, sid))
    const middleShare = scalarMult(scalars.middle, calculateGenerator(ascii(guess), channel, sid))
    const a = { share: joinerShare, associated: ascii('joins') }
    const b = { share: middleShare, associated: ascii('admits') }
    const secret = scalarMultVfy(scalars.joiner, middleShare)
    const tag = confirmationTag(sid, sessionKey(sid, secret, a, b), a)
    return { scalars, a, b, secret, tag }
  }

  test('has one guess a run: no two codes hash to the same generator, so that a share stands for one of them', () => {
    const textOf = (guess: number) => {
      const digits = String(guess).padStart(6, '0')
      return { digits, text: Buffer.from(generatorString(ascii(digits), channel, sid)) }
    }
    // Six bytes of one text are written over: making a million of them takes a minute.
    const { text } = textOf(0)
    const at = text.indexOf('000000', 'ascii')
    const hashes = new Set<string>()
    for (let guess = 0; guess < 1_000_000; guess++) {
      text.write(String(guess).padStart(6, '0'), at, 'ascii')
      if (guess % 99_991 === 0) expect(text).toEqual(textOf(guess).text)
      // 12 of 64 bytes: two that differ in them differ.
      hashes.add(hash('sha512', text, 'buffer').toString('latin1', 0, 12))
    }
    expect(hashes.size).toBe(1_000_000)
  })

  test('finds the tag with the guess that was right, and with none of many keys where it was wrong', () => {
    const tagOf = ({ a, b }: ReturnType<typeof run>, secret: Uint8Array) =>
      hex(confirmationTag(sid, sessionKey(sid, secret, a, b), a))

    const lucky = run(code)
    expect(tagOf(lucky, scalarMultVfy(lucky.scalars.middle, lucky.a.share))).toBe(hex(lucky.tag))

    // Afterwards it tries keys: multiples of what it was sent are all that it can make without the joiner's scalar.
    const wrong = run('271829')
    expect(tagOf(wrong, wrong.secret)).toBe(hex(wrong.tag))
    const sent = ristretto255.Point.fromBytes(wrong.a.share)
    const wanted = ristretto255.Point.fromBytes(wrong.secret)
    let tried = sent.multiply(ristretto255.Point.Fn.fromBytes(wrong.scalars.middle))
    let found = 0
    for (let key = 0; key < KEYS; key++) {
      if (tried.equals(wanted)) found++
      tried = tried.add(sent)
    }
    expect(found).toBe(0)
  })
})

/** A million takes a minute: `EDGESHARD_PAIRING_KEYS=1000000`. */
const KEYS = Number(process.env.EDGESHARD_PAIRING_KEYS ?? 10_000)
