import { expect, test } from 'vitest'
import type { StageTimes } from '../../../../node/api.ts'
import type { ScenarioInput } from '../../../../node/plan/index.ts'
import { assumedTimes } from '../../../../node/source/placement/assumed-times.ts'
import type { Observation } from '../../../../node/source/placement/corrections.ts'
import type { PlacementNeeds, Planning } from '../../../../node/source/placement/planning.ts'
import { learnFrom, predictAnswer } from '../../../../node/source/placement/prediction.ts'
import type { TriedFor } from '../../../../node/source/placement/tried-plans.ts'
import { MODEL } from '../simulated-answer.ts'

/** One device whose step takes 2 ms and a microsecond for each token before it. */
function scenarioFor({ cachedTokens = 0, promptTokens, newTokens }: PlacementNeeds): ScenarioInput {
  return {
    devices: [{ id: 'a', memoryBytes: 1e9, profile: 'a' }],
    source: 'a',
    links: {},
    model: { name: 'm', layers: [{ kind: 'decoder', count: 2, weightBytes: 1, activationBytes: 4 }] },
    profiles: { a: { decoder: { decodeMs: 1, decodeMsByContext: { 32: 1, 1032: 1.5 } } } },
    workload: { cachedTokens, promptTokens, newTokens, batch: 1, contextTokens: 0 }
  }
}

test('an answer teaches by what its steps should take at the context that they had, not at the one that was planned', () => {
  const observed: Observation[] = []
  const noted: TriedFor[] = []
  const planning = {
    scenario: scenarioFor,
    candidates: () => ({ source: { record: { peerId: 'a', profiles: {} } }, peers: [] }),
    candidate: () => undefined,
    believedProfiles: () => [],
    corrections: { observe: (observation: Observation) => void observed.push(observation) },
    tried: { note: (of: TriedFor) => void noted.push(of) }
  } as unknown as Planning
  const objective = 'latency'
  const asked = { model: { id: 'm' }, promptTokens: 10, newTokens: 8000, objective, placement: {} }
  const needs = asked as PlacementNeeds
  const placed = {
    needs,
    stages: [{ peerId: 'a', name: 'a', layers: [0, 2] as [number, number], weightBytes: 0 }]
  }
  // It was planned for a mean of 4,010 tokens, and ended after a few.
  expect(predictAnswer(planning, placed)!.tpotMs).toBeCloseTo(2 * (1 + (4010 - 32) * 0.0005))
  const measured = {
    steps: 20,
    sequences: 1,
    stages: [{ computeMs: 2, waitMs: 0 }],
    linksMs: [],
    stepMs: 2,
    doubted: 0,
    doubt: undefined
  }
  learnFrom(planning, placed, { ...measured, contextTokens: 20 })
  learnFrom(planning, placed, { ...measured, contextTokens: 1031 })
  // Exact ones take longer: where they ran says so of exact ones alone.
  const exact = { ...placed, needs: { ...needs, exact: true } }
  learnFrom(planning, exact, { ...measured, contextTokens: 20 })
  expect(noted.map(({ exact }) => exact)).toEqual([false, false, true])
  const [short, long] = observed.map(({ expected }) => expected.stages[0]!.computeMs)
  expect(short).toBe(2)
  expect(long).toBeCloseTo(3, 2)
})

/** What an answer over two layers teaches of a device that has timed no layers. */
function taughtOf(
  { id, manifest }: { id: string; manifest: unknown },
  record: { peerId: string; stageTimes?: StageTimes }
): Observation {
  const observed: Observation[] = []
  const candidate = { record: { ...record, profiles: {} } }
  const planning = {
    scenario: scenarioFor,
    candidates: () => ({ source: candidate, peers: [] }),
    candidate: () => candidate,
    believedProfiles: () => [undefined],
    ownTimes: () => assumedTimes(MODEL.manifest),
    corrections: { observe: (observation: Observation) => void observed.push(observation) },
    tried: { note: () => {} }
  } as unknown as Planning
  const asked = { promptTokens: 10, newTokens: 9, objective: 'latency', placement: {} }
  const needs = { model: { id, manifest }, ...asked } as unknown as PlacementNeeds
  const stages = [{ peerId: 'a', name: 'a', layers: [0, 2] as [number, number], weightBytes: 0 }]
  const measured = {
    ...{ steps: 20, sequences: 1, contextTokens: 9, stepMs: 2, doubted: 0, doubt: undefined },
    stages: [{ computeMs: 2, waitMs: 0 }],
    linksMs: []
  }
  learnFrom(planning, { needs, stages }, measured)
  return observed[0]!
}

test('an answer of a node that has timed nothing teaches of the times that its plan has assumed', () => {
  const { stages } = taughtOf(MODEL, { peerId: 'a' })
  expect(stages).toMatchObject([{ borrowed: true, profile: assumedTimes(MODEL.manifest) }])
})

test('a stage rests where it has few of the layers, and its device is held to a share', () => {
  const rests = (layers: number, frameMs: number | undefined) => {
    const stageTimes = { turnMs: 0, sharedTurnMs: 0, startMs: 0, frameMs }
    const model = { id: MODEL.id, manifest: { layers: Array(layers) } }
    return taughtOf(model, { peerId: 'a', stageTimes }).stages[0]!.rests
  }
  expect([rests(12, 1), rests(8, 1), rests(12, undefined)]).toEqual([true, false, false])
})
