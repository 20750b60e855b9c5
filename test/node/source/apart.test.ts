import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { noticeOf } from '../../../node/source/request/notices.ts'
import { pass, played, stopClock } from '../simulation/clock.ts'
import type { SimulatedMesh } from '../simulation/mesh.ts'
import { drawAnswer, MODEL, meshOf, needsOf } from './simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const needs = needsOf(MODEL, { newTokens: 12 })
const wholeAnswer = async () =>
  (await played(drawAnswer(meshOf(['alone'], 5).get('alone').source().deployments, needs))).tokens

/** Hidden states that came to a device, by their sender. */
function watchFrames(mesh: SimulatedMesh): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { id, peers } of mesh.nodes.values()) {
    peers.meet = (what, from) => {
      if (what === 'frame') counts.set(`${from} ${id}`, (counts.get(`${from} ${id}`) ?? 0) + 1)
    }
  }
  return counts
}

const neighbours = ({ plan }: { plan: { stages: { peerId: string }[] } }) =>
  plan.stages.slice(1).map(({ peerId }, i) => [plan.stages[i]!.peerId, peerId].sort().join(' '))

test('two devices that cannot reach each other are no neighbours where there is another plan', async () => {
  const expected = await wholeAnswer()
  const mesh = meshOf(['a', 'b', 'c', 'd'])
  mesh.part('b', 'c')
  const { tokens, stream } = await played(drawAnswer(mesh.get('a').source().deployments, needs))
  expect(tokens).toEqual(expected)
  expect(stream.recoveries).toBe(0)
  expect(neighbours(stream)).not.toContain('b c')
  expect(stream.plan.stages.filter(({ via }) => via !== undefined)).toEqual([])
})

test('where only the source joins the two, it hands on what they send each other, and says so', async () => {
  const expected = await wholeAnswer()
  const mesh = meshOf(['a', 'b', 'c'])
  mesh.part('b', 'c')
  const frames = watchFrames(mesh)
  const { deployments } = mesh.get('a').source()
  for (const _ of [1, 2]) {
    const { tokens, events, stream } = await played(drawAnswer(deployments, needs))
    expect(tokens).toEqual(expected)
    expect(stream.recoveries).toBe(0)
    const [, second, third] = stream.plan.stages
    expect([second!.via, third!.via]).toEqual(['a', undefined])
    const notice = events.flatMap(event => noticeOf(event) ?? []).join()
    expect(notice).toMatch(/[bc] and [bc] cannot reach each other/)
  }
  expect([frames.has('b c'), frames.has('c b')]).toEqual([false, false])
  for (const way of ['a b', 'b a', 'a c', 'c a']) expect(frames.get(way)).toBeGreaterThan(needs.newTokens)
  await played(deployments.close())
  await pass(1000)
  expect(mesh.empty).toBe(true)
})

test('also where the tail is on the source', async () => {
  const sealed = needsOf(MODEL, { newTokens: 12, privacy: 'sealed' })
  const whole = meshOf(['alone'], 5).get('alone').source()
  const { tokens: expected } = await played(drawAnswer(whole.deployments, sealed))
  const mesh = meshOf(['a', 'b', 'c'])
  mesh.part('b', 'c')
  const { tokens, stream } = await played(drawAnswer(mesh.get('a').source().deployments, sealed))
  expect(tokens).toEqual(expected)
  expect([stream.recoveries, stream.plan.stages.at(-1)!.peerId]).toEqual([0, 'a'])
})

test.each([
  ['there is another device', ['a', 'b', 'c', 'd']],
  ['there is none', ['a', 'b', 'c']]
])(
  'a link that breaks during an answer costs it one recovery, whose message names both ends; %s',
  async (_, ids) => {
    const expected = await wholeAnswer()
    const mesh = meshOf(ids)
    // They do not know it themselves.
    mesh.tellsApart = false
    const { deployments } = mesh.get('a').source()
    let broken = ''
    const { tokens, events, stream } = await played(
      drawAnswer(deployments, needs, {
        onToken: drawn => {
          if (drawn.length !== 4) return
          const [, second, third] = deployments.state()[0]!.plan.stages
          broken = [second!.peerId, third!.peerId].sort().join(' ')
          mesh.part(second!.peerId, third!.peerId)
        }
      })
    )
    expect(tokens).toEqual(expected)
    expect(stream.recoveries).toBe(1)
    const [recovery] = events.filter(event => event.type === 'recovery')
    const [one, other] = broken.split(' ')
    expect(recovery?.reason).toContain('cannot reach each other')
    for (const id of [one, other]) expect(recovery?.reason).toContain(`${id} (${id})`)
    const relayed = stream.plan.stages.some(({ via }) => via !== undefined)
    if (ids.length === 4) expect([neighbours(stream).includes(broken), relayed]).toEqual([false, false])
    else expect([neighbours(stream).includes(broken), relayed]).toEqual([true, true])
    // The next answer does not try the link again.
    const next = await played(drawAnswer(deployments, needs))
    expect([next.stream.recoveries, next.tokens]).toEqual([0, expected])
  }
)
