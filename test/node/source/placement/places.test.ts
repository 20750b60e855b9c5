import { expect, test } from 'vitest'
import type { PlannedStage } from '../../../../node/api.ts'
import type { StagePlan } from '../../../../node/plan/index.ts'
import { neighboursOf } from '../../../../node/source/placement/chain.ts'
import { isRoutable, isSamePlaced, placeKey } from '../../../../node/source/placement/places.ts'

const on = (device: string, processor?: string): StagePlan => ({
  device,
  ...(processor !== undefined && { processor }),
  layers: [0, 1]
})

test('stages can be run where those of another device than the source follow each other', () => {
  const [a, gpu, cpu, c] = [on('a'), on('b', 'gpu'), on('b', 'cpu'), on('c')]
  expect(isRoutable([a, gpu, cpu, c])).toBe(true)
  expect(isRoutable([a, gpu, cpu, c, a])).toBe(true)
  expect(isRoutable([on('a', 'gpu'), on('a', 'cpu'), c, on('a', 'gpu')])).toBe(true)
  expect(isRoutable([a, gpu, c, cpu])).toBe(false)
  expect(isRoutable([])).toBe(true)
})

test('places are told apart by their processors', () => {
  const one = { peerId: 'b', processor: 'gpu', layers: [0, 2] as const }
  expect(isSamePlaced(one, { ...one })).toBe(true)
  expect(isSamePlaced(one, { ...one, processor: 'cpu' })).toBe(false)
  expect(isSamePlaced(one, { ...one, layers: [0, 3] })).toBe(false)
  expect([placeKey(one), placeKey({ peerId: 'b' })]).toEqual(['b gpu', 'b'])
})

test('two stages of a device are neighbours of each other, and several of the source are told apart', () => {
  const stage = (peerId: string, start: number): PlannedStage => ({
    ...{ peerId, name: peerId, weightBytes: 1 },
    layers: [start, start + 1]
  })
  const stages = [stage('a', 0), stage('a', 1), stage('b', 2), stage('b', 3), stage('a', 4)]
  expect(stages.map((_, at) => neighboursOf(stages, at))).toEqual([
    { previous: 'a', next: 'a' },
    { previous: 'a 0', next: 'b' },
    { previous: 'a', next: 'b' },
    { previous: 'b', next: 'a' },
    { previous: 'b', next: 'a' }
  ])
})
