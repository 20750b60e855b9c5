import { expect, test } from 'vitest'
import type { LayerProfile } from '../../../../node/api.ts'
import { likenedTimes } from '../../../../node/source/placement/likened-times.ts'

const at = (decodeMs: number): LayerProfile => {
  const times = {
    decodeMs,
    prefillMsPerToken: decodeMs / 4,
    decodeMsByBatch: { 1: decodeMs, 8: 2 * decodeMs }
  }
  return { embedding: times, decoder: times, head: times }
}
const model = { modelId: 'large', assumed: at(2) }
const record = (profiles: Record<string, LayerProfile>) => ({ profiles })

test('times are those of a device that has timed the model, as many times as long as another model takes here', () => {
  const own = record({ small: at(0.3) })
  const there = record({ small: at(0.1), large: at(2) })
  const { decoder, head } = likenedTimes(own, [there], model)!
  for (const times of [decoder!, head!]) {
    expect(times.decodeMs).toBeCloseTo(6)
    expect(times.prefillMsPerToken).toBeCloseTo(1.5)
    expect(times.decodeMsByBatch!['8']).toBeCloseTo(12)
  }
})

test('devices that differ no more than timings do are alike, and of several the one in the middle counts', () => {
  const own = record({ small: at(0.1), other: at(1) })
  const like = (small: number, large: number) => record({ small: at(small), large: at(large) })
  expect(likenedTimes(own, [like(0.08, 2)], model)).toEqual(at(2))
  const [liar, one, two] = [like(0.001, 2), like(0.1, 2), like(0.1, 3)]
  expect(likenedTimes(own, [liar, one, two], model)).toEqual(at(3))
})

test('nothing is likened to a device that has timed nothing else, or not the model', () => {
  const own = record({ small: at(0.1) })
  const others = [record({ large: at(2) }), record({ small: at(1) }), record({})]
  expect(likenedTimes(own, others, model)).toBeUndefined()
})

test('a device that has just started and timed nothing is like the others, and like none that claims what cannot be', () => {
  const claim = (ms: number) => record({ large: at(ms) })
  expect(likenedTimes(record({}), [claim(3)], model)).toEqual(at(3))
  expect(likenedTimes(record({}), [claim(100), claim(3), claim(0.001)], model)).toEqual(at(3))
  expect(likenedTimes(record({}), [claim(100)], model)).toBeUndefined()
})
