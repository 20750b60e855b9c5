/** A seeded source of randomness (mulberry32), so that a failing message can be made again. */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed
  }

  /** In [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }

  below(count: number): number {
    return Math.floor(this.next() * count)
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!
  }
}

const HOSTILE: unknown[] = [
  null,
  true,
  -1,
  0,
  0.5,
  2 ** 31,
  2 ** 53,
  -(2 ** 53),
  1e308,
  '',
  'x',
  'a'.repeat(1000),
  '\u001b[2J\u202e',
  '../../etc/passwd',
  '__proto__',
  [],
  Array.from({ length: 300 }, () => 0),
  {},
  { toString: 1 }
]

/** More than any message may have. */
const OVERSIZED = 'a'.repeat(70_000)

/** A copy of a JSON value with one thing changed somewhere: a leaf, a missing key, a surplus key, a repeated element. */
export function mutateJson(value: unknown, random: Random): unknown {
  if (typeof value !== 'object' || value === null || random.next() < 0.15) {
    return random.next() < 0.005 ? OVERSIZED : random.pick(HOSTILE)
  }
  if (Array.isArray(value)) {
    const copy = [...value]
    const at = random.below(Math.max(1, copy.length))
    if (copy.length === 0 || random.next() < 0.3) copy.push(random.pick(HOSTILE))
    else copy[at] = mutateJson(copy[at], random)
    return copy
  }
  const copy: Record<string, unknown> = { ...value }
  const keys = Object.keys(copy)
  const key = keys.length === 0 ? 'surplus' : random.pick(keys)
  const dice = random.next()
  if (dice < 0.15) delete copy[key]
  else if (dice < 0.25)
    copy[random.pick(['surplus', 'constructor', '__proto__', 'type'])] = random.pick(HOSTILE)
  else copy[key] = mutateJson(copy[key], random)
  return copy
}

/** A copy of some bytes: a few flipped, a field overwritten, a piece missing, doubled or foreign. */
export function mutateBytes(bytes: Uint8Array, random: Random): Uint8Array {
  const copy = Buffer.from(bytes)
  const at = random.below(Math.max(1, copy.byteLength))
  switch (random.below(5)) {
    case 0:
      for (let i = 0; i <= random.below(4); i++) copy[random.below(copy.byteLength)]! ^= 1 << random.below(8)
      return copy
    case 1:
      copy.writeUInt32LE(
        random.pick([0, 1, 2 ** 31, 2 ** 32 - 1, 513, 16_385]),
        Math.min(at, copy.byteLength - 4)
      )
      return copy
    case 2:
      return copy.subarray(0, at)
    case 3:
      return Buffer.concat([copy.subarray(0, at), copy.subarray(Math.max(0, at - 8))])
    default:
      return Buffer.concat([
        copy.subarray(0, at),
        Buffer.from(Array.from({ length: 16 }, () => random.below(256)))
      ])
  }
}
