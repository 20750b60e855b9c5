import { describe, expect, test } from 'vitest'
import type { MeshEvent } from '../../../node/mesh-events.ts'
import { type Activity, afterActivity, isAtRest, NOTHING } from '../../../node/page/activity.ts'
import { fakeNode, RESULT } from '../http/fake-node.ts'

const { stages } = RESULT.plan
const { predicted } = RESULT

const folded = (events: readonly MeshEvent[], from: Activity = NOTHING) =>
  events.reduce((activity, event, i) => afterActivity(activity, event, 1000 * i), from)

const begun: MeshEvent = { type: 'answer', data: { answer: 1, stages, predicted } }
const load = (done: number): MeshEvent => ({
  type: 'load',
  data: { answer: 1, phase: 'weights', peer: 'laptop', done, total: 100 }
})

describe('what answers do', () => {
  test('loads are there until the first token, each with where it began', () => {
    const loading = folded([load(20), load(60)])
    expect(loading.loads).toEqual([
      { answer: 1, phase: 'weights', peer: 'laptop', done: 60, total: 100, sinceMs: 0, doneBefore: 20 }
    ])
    expect(folded([{ type: 'step', data: { answer: 1, tokens: 1 } }], loading).loads).toEqual([])
    expect(
      folded([{ type: 'answer', data: { answer: 1, outcome: 'cancelled', tokens: 0 } }], loading).loads
    ).toEqual([])
  })

  test('an answer lives from its plan to its end, which is remembered', () => {
    const live = folded([begun, begun])
    expect(live.live).toEqual([{ answer: 1, stages, predicted }])
    const ended = folded([{ type: 'answer', data: { answer: 1, outcome: 'stop', tokens: 3 } }], live)
    expect(ended).toEqual({ ...NOTHING, ended: [{ answer: 1, outcome: 'stop', tokens: 3 }] })
  })

  test('a loss says who computes now, and what it took', () => {
    const spent = { detectMs: 1, planMs: 2, recruitMs: 3, rebuildMs: 4 }
    const lost = folded([begun, { type: 'recovery', data: { answer: 1, peerId: 'p', reason: 'silent' } }])
    expect(lost.losses).toEqual([{ answer: 1, peerId: 'p', reason: 'silent', sinceMs: 1000 }])
    const placed = folded([begun], lost)
    expect(placed.losses[0]).toMatchObject({ stages })
    const good = folded([{ type: 'recovery', data: { answer: 1, peerId: 'p', spent } }], placed)
    expect(good.losses[0]).toMatchObject({ stages, spent })
    const failed = folded([{ type: 'answer', data: { answer: 1, outcome: 'stage_lost', tokens: 2 } }], placed)
    expect(failed.losses[0]).toMatchObject({ outcome: 'stage_lost' })
  })

  test('a node that was started anew has no answers of before under way, only figures of them', () => {
    const before = folded([
      begun,
      load(1),
      { type: 'answer', data: { answer: 0, outcome: 'stop', tokens: 1 } }
    ])
    const now = folded([{ type: 'mesh', data: fakeNode().mesh() }], before)
    expect(now).toEqual({ ...NOTHING, ended: before.ended })
  })

  test('from its first device that loads to its end an answer holds on to memory', () => {
    expect(isAtRest(NOTHING)).toBe(true)
    const [loading, placed] = [folded([load(20)]), folded([load(20), begun])]
    const ended = folded([{ type: 'answer', data: { answer: 1, outcome: 'stop', tokens: 3 } }], placed)
    expect([loading, placed, ended].map(isAtRest)).toEqual([false, false, true])
  })

  test('what a loss came to is told through a restart of the node, one that was going on is not', () => {
    const lost = (answer: number): MeshEvent => ({
      type: 'recovery',
      data: { answer, peerId: 'p', reason: 'silent' }
    })
    const ended: MeshEvent = { type: 'answer', data: { answer: 1, outcome: 'error', tokens: 2 } }
    const before = folded([lost(1), ended, lost(2)])
    const { losses } = folded([{ type: 'mesh', data: fakeNode().mesh() }], before)
    expect(losses).toEqual([before.losses[0]])
  })

  test('what says nothing of answers changes nothing', () => {
    const activity = folded([begun])
    for (const event of [
      { type: 'step', data: { answer: 1, tokens: 2 } },
      { type: 'rest', data: { sessions: 1 } },
      { type: 'load', data: { fetches: [] } }
    ] satisfies MeshEvent[]) {
      expect(afterActivity(activity, event, 0)).toBe(activity)
    }
  })
})
