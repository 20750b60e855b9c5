import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { OwnStageLostError } from '../../../node/errors.ts'
import { pass, played, stopClock } from '../simulation/clock.ts'
import { drawAnswer, MODEL, meshOf, needsOf } from './simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

async function undisturbed(): Promise<number[]> {
  const whole = meshOf(['a'], 5, MODEL).get('a').source()
  return (await played(drawAnswer(whole.deployments, needsOf()))).tokens
}

test('what computes a stage of the source ends: the answer goes on with the same tokens, and the source is not avoided', async () => {
  const expected = await undisturbed()
  const mesh = meshOf(['a', 'b'], 0.7, MODEL)
  const source = mesh.get('a').source().deployments
  const own = mesh.get('a').runtime
  const answer = drawAnswer(source, needsOf(), {
    onToken: tokens => {
      if (tokens.length === 3) own.crash()
    }
  })
  const { tokens, events, stream } = await played(answer)
  expect(tokens).toEqual(expected)
  expect(stream.recoveries).toBe(1)
  const recovery = events.find(event => event.type === 'recovery')
  expect(recovery).toMatchObject({ peerId: 'a', reason: expect.stringContaining('process of the GPU ended') })
  // The place that it went on at has the source's own first stage again.
  expect(stream.plan.stages[0]).toMatchObject({ peerId: 'a' })
  await played(source.close())
  await pass(1000)
  expect(mesh.empty).toBe(true)
})

test('what computes a stage of a peer ends: it is lost like any other, and its layers load anew there', async () => {
  const expected = await undisturbed()
  const mesh = meshOf(['a', 'b'], 0.7, MODEL)
  const source = mesh.get('a').source().deployments
  const { runtime } = mesh.get('b')
  let loads = 0
  const answer = drawAnswer(source, needsOf(), {
    onToken: tokens => {
      if (tokens.length !== 3) return
      loads = runtime.loads.length
      runtime.crash()
    }
  })
  const { tokens, events, stream } = await played(answer)
  expect(tokens).toEqual(expected)
  expect(stream.recoveries).toBe(1)
  // The source is told at once and why, and does not find out when it next asks.
  const recovery = events.find(event => event.type === 'recovery')
  expect(recovery).toMatchObject({ peerId: 'b', reason: expect.stringContaining('process of the GPU ended') })
  // Nobody else has the room: the same device is taken again, and what it had is not handed out as if it were whole.
  expect(runtime.loads.length).toBe(loads + 1)
  await played(source.close())
  await pass(1000)
  expect(mesh.empty).toBe(true)
})

test('an idle stage whose processor ends is not used by the next answer', async () => {
  const expected = await undisturbed()
  const mesh = meshOf(['a', 'b'], 0.7, MODEL)
  const source = mesh.get('a').source().deployments
  expect((await played(drawAnswer(source))).tokens).toEqual(expected)
  for (const id of ['a', 'b']) mesh.get(id).runtime.crash()
  await pass(100)
  const again = await played(drawAnswer(source))
  expect(again.tokens).toEqual(expected)
  await played(source.close())
  await pass(1000)
  expect(mesh.empty).toBe(true)
})

test('it has the code of a lost stage', () => {
  expect(new OwnStageLostError('gone', 'a')).toMatchObject({ code: 'stage_lost', peerId: 'a' })
})
