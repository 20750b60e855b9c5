import { describe, expect, test } from 'vitest'
import { NotFiniteError } from '../../../../models/runtime/errors.ts'
import type { PlannedStage } from '../../../../node/api.ts'
import { Blame } from '../../../../node/source/pipeline/blame.ts'
import type { StageCode } from '../../../../protocols/stage/index.ts'
import { errorFrame } from './pipeline-fixture.ts'

const stage = (peerId: string, start: number): PlannedStage => ({
  peerId,
  name: `${peerId}'s name`,
  layers: [start, start + 1],
  weightBytes: 0
})
const REMOTE = [stage('b', 1), stage('c', 2), stage('d', 3)]
const blameOf = (suspects: string[] = [], remote = REMOTE) =>
  new Blame(remote, { suspects: () => new Set(suspects) })
const frame = (code: StageCode) => {
  const step = { rows: [], tokens: 0, sample: false, timings: [] }
  return errorFrame(step, code, 'it cannot go on') as ReturnType<typeof errorFrame> & { type: 'error' }
}
const nobody = async () => new Set<string>()

test.each([
  ['stage', 'c', 'c'],
  ['next', 'c', 'd'],
  // Behind the last one is the source, which is there.
  ['next', 'd', 'd'],
  ['input', 'c', 'b']
] as const)('of %s from %s it is %s', (code, from, blamed) => {
  expect(blameOf().refused(from, frame(code))).toMatchObject({
    of: 'stage',
    error: { name: 'StageLostError', peerId: blamed, message: expect.stringContaining('it cannot go on') }
  })
})

test('numbers that are none in the last stage, on this device, name the device that they came from', () => {
  const error = new NotFiniteError('the hidden states that came in are not finite')
  expect(blameOf().tail(error)).toMatchObject({
    name: 'NotFiniteError',
    message:
      "the stage of this device behind d's name (d) with layers [3, 4): the hidden states that came in are not finite"
  })
  expect(blameOf([], []).tail(error)).toBe(error)
  const other = new Error('a damaged file')
  expect(blameOf().tail(other)).toBe(other)
})

test('two that cannot reach each other are both named, unless one of them is gone', () => {
  const { error } = blameOf().refused('c', frame('next'))
  expect(error).toMatchObject({
    apart: ['c', 'd'],
    message:
      "stage lost: c's name (c) with layers [2, 3) and d's name (d) with layers [3, 4) cannot reach each other: it cannot go on"
  })
  expect(blameOf(['d']).refused('c', frame('next')).error).toMatchObject({ peerId: 'd', apart: undefined })
  // Behind the last one is the source.
  expect(blameOf().refused('d', frame('next')).error).toMatchObject({ peerId: 'd', apart: undefined })
})

test.each([
  ['not-finite', 'c', 'NotFiniteError'],
  ['input', 'b', 'Error']
] as const)('%s from %s is the sessions’ own, until it comes again and again', (code, from, name) => {
  const blame = blameOf()
  const own = { of: 'sessions', error: { name } }
  expect(blame.refused(from, frame(code))).toMatchObject(own)
  expect(blame.refused(from, frame(code))).toMatchObject(own)
  // It is counted apart for another stage.
  expect(blame.refused('d', frame('not-finite'))).toMatchObject({ of: 'sessions' })
  blame.drawn()
  expect(blame.refused(from, frame(code))).toMatchObject(own)
  expect(blame.refused(from, frame(code))).toMatchObject(own)
  expect(blame.refused(from, frame(code))).toMatchObject({ of: 'stage', error: { peerId: from } })
})

test('a peer without a stage is nothing to it', () => {
  expect(blameOf().peer('x', 'gone')).toBeUndefined()
  expect(blameOf().peer('c', 'gone')).toMatchObject({
    peerId: 'c',
    message: "stage lost: c's name (c) with layers [2, 3): gone"
  })
})

test('of silent ones it is the first in line', () => {
  expect(blameOf(['d', 'c', 'x']).silent('silent')).toMatchObject({ peerId: 'c' })
  expect(blameOf(['x']).silent('silent')).toBeUndefined()
})

test('what could not be sent is the loss of the first; without peers it is nobody’s', () => {
  expect(blameOf().unsent('the stream broke')).toMatchObject({ peerId: 'b' })
  expect(blameOf([], []).unsent('the stream broke')).toBeUndefined()
})

test('a token that nobody asked for is the last one’s; without peers it is a bug of this node', () => {
  expect(blameOf().unasked('early')).toMatchObject({ name: 'StageLostError', peerId: 'd' })
  expect(blameOf([], []).unasked('early')).toMatchObject({ name: 'Error', message: 'early' })
})

describe('when nobody answers in time', () => {
  test('it is the one that is silent, and nobody is asked', async () => {
    let asked = false
    const ask = async () => {
      asked = true
      return new Set<string>()
    }
    expect(await blameOf(['c']).late('no token', ask)).toMatchObject({ peerId: 'c' })
    expect(asked).toBe(false)
  })

  test('else the first one that does not even end the session', async () => {
    const hanging = async () => new Set(['d', 'c'])
    const error = await blameOf().late('no token', hanging)
    expect(error).toMatchObject({ peerId: 'c' })
    // It may be any of the two.
    expect(error.cause).toBeUndefined()
  })

  test('which is a deadline that it has missed where no other one can be it', async () => {
    const missed = { peerId: 'c', cause: { name: 'DeadlineError' } }
    expect(await blameOf().late('no token', async () => new Set(['c']))).toMatchObject(missed)
  })

  test('else the last one, and all are named', async () => {
    const error = await blameOf().late('no token', nobody)
    expect(error).toMatchObject({ peerId: 'd', message: expect.stringMatching(/\(b\).*\(c\).*\(d\)/) })
  })
})
