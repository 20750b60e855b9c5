import { expect, test } from 'vitest'
import { type CacheEntry, roomFor } from '../../../node/weights/cache-room.ts'

const LIMITS = { models: 6, sourceModels: 3, bytes: 100, sourceBytes: 50 }

const entry = (id: string, claims: CacheEntry['claims'], over: Partial<CacheEntry> = {}): CacheEntry => ({
  id,
  claims,
  bytes: 10,
  leased: 'no',
  ...over
})
const need = (source: string, over: { id?: string; bytes?: number } = {}) => ({
  id: 'new',
  source,
  bytes: 0,
  ...over
})

test('what fits takes nothing from anybody', () => {
  expect(roomFor([entry('x', { a: 1 }), entry('y', { b: 2 })], need('a'), LIMITS)).toEqual({
    drop: [],
    unclaim: []
  })
})

test('a source with its share of models gives up what it has used least lately', () => {
  const entries = [entry('x', { a: 3 }), entry('y', { a: 1 }), entry('z', { a: 2 }), entry('other', { b: 0 })]
  expect(roomFor(entries, need('a'), LIMITS)).toEqual({ drop: ['y'], unclaim: [] })
})

test('and goes without one that others use, who keep it', () => {
  const entries = [entry('x', { a: 3 }), entry('y', { a: 1, b: 9 }), entry('z', { a: 2 })]
  expect(roomFor(entries, need('a'), LIMITS)).toEqual({ drop: [], unclaim: ['y'] })
})

test('a source with its share of bytes gives up as many as it takes', () => {
  const entries = [entry('x', { a: 3 }, { bytes: 20 }), entry('y', { a: 1 }, { bytes: 20 })]
  expect(roomFor(entries, need('a', { bytes: 40 }), LIMITS)).toEqual({ drop: ['y', 'x'], unclaim: [] })
})

test('more of a model that is there counts with what is there, and takes not its own place', () => {
  const entries = [entry('x', { a: 1 }, { bytes: 30 }), entry('y', { a: 2 }, { bytes: 20 })]
  expect(roomFor(entries, need('a', { id: 'x', bytes: 10 }), LIMITS)).toEqual({ drop: ['y'], unclaim: [] })
})

test('leases that wait go after models without, and models in use never', () => {
  const three = [
    entry('x', { a: 1 }, { leased: 'busy' }),
    entry('y', { a: 2 }, { leased: 'idle' }),
    entry('z', { a: 3 })
  ]
  expect(roomFor(three, need('a'), LIMITS)).toEqual({ drop: ['z'], unclaim: [] })
  expect(roomFor(three.slice(0, 2), need('a', { bytes: 35 }), LIMITS)).toEqual({ drop: ['y'], unclaim: [] })
  const busy = three.map(one => ({ ...one, leased: 'busy' as const }))
  expect(roomFor(busy, need('a'), LIMITS)).toBeUndefined()
})

test('where all of it is full those go first whose sources hold most, be it models or bytes', () => {
  const small = ['a', 'b'].flatMap(source => [1, 2, 3].map(at => entry(`${source}${at}`, { [source]: at })))
  const honest = entry('large', { honest: 0 }, { bytes: 45 })
  const full = [...small.slice(0, 5), honest]
  expect(roomFor(full, need('c'), LIMITS)).toEqual({ drop: ['a1'], unclaim: [] })
  expect(
    roomFor([entry('small', { b: 0 }, { bytes: 1 }), honest], need('c', { bytes: 55 }), LIMITS)
  ).toBeUndefined()
  expect(roomFor([entry('small', { b: 0 }, { bytes: 9 }), honest], need('c', { bytes: 50 }), LIMITS)).toEqual(
    {
      drop: ['large'],
      unclaim: []
    }
  )
})

test('what no source uses goes before all else', () => {
  const full = [entry('old', {}), ...[1, 2, 3, 4, 5].map(at => entry(`m${at}`, { [`s${at}`]: at }))]
  expect(roomFor(full, need('c'), LIMITS)).toEqual({ drop: ['old'], unclaim: [] })
})
