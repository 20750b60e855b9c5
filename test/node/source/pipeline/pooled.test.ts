import { expect, test } from 'vitest'
import { MILESTONE_TOKENS } from '../../../../node/source/pipeline/prompt-progress.ts'
import type { Step } from '../../../../node/stage/stage.ts'
import type { StageFrame } from '../../../../protocols/stage/index.ts'
import { drawn, errorFrame, pipelineOf } from './pipeline-fixture.ts'

/** The frame by which `c` says what a step's session comes to. */
const said = ({ rows, tokens }: Step, values: number[]): StageFrame => ({
  type: 'pooled',
  rows,
  tokens,
  sample: true,
  timings: [],
  hiddenSize: values.length,
  pooled: Float32Array.from(values)
})
const lostPeer = (peerId: string) => ({ name: 'StageLostError', peerId })
const pooling = 'mean' as const

test('the vector behind the last step is the prompt’s, and the slot is free behind it', async () => {
  const { pipeline, steps, open } = pipelineOf()
  const answer = await open({ pooling })
  expect(steps).toMatchObject([{ tokens: 3, sample: true }])
  pipeline.receive('c', said(steps[0]!, [0.6, 0.8]))
  expect([...(await answer.pooled())]).toEqual([0.6, 0.8].map(Math.fround))
  // Nobody waits for more of it.
  pipeline.receive('c', said(steps[0]!, [1, 0]))
  await answer.close()
  expect([pipeline.active, pipeline.failure]).toEqual([0, undefined])
})

test('what comes behind milestones says only how far the prompt is', async () => {
  const { pipeline, steps, open } = pipelineOf()
  const prompt = Array.from({ length: 2 * MILESTONE_TOKENS }, (_, i) => i % 100)
  const answer = await open({ pooling, prompt })
  await expect.poll(() => steps.length).toBe(2 * (MILESTONE_TOKENS / 32))
  const [milestone, last, ...others] = steps.filter(({ sample }) => sample)
  expect(others).toEqual([])
  pipeline.receive('c', said(milestone!, [1, 0]))
  pipeline.receive('c', said(last!, [0, 1]))
  expect([...(await answer.pooled())]).toEqual([0, 1])
})

test.each([
  ['of another size', [1, 0, 0]],
  ['of another length', [0.6, 0.6]],
  ['that is no number', [Number.NaN, 1]]
])('a vector %s is the loss of the last stage', async (_, values) => {
  const { pipeline, steps, open } = pipelineOf()
  const answer = await open({ pooling })
  pipeline.receive('c', said(steps[0]!, values))
  await expect(answer.pooled()).rejects.toMatchObject(lostPeer('c'))
})

test('a vector from another than the last stage is passed over', async () => {
  const { pipeline, steps, open } = pipelineOf()
  const answer = await open({ pooling })
  pipeline.receive('b', said(steps[0]!, [1, 0]))
  pipeline.receive('c', said(steps[0]!, [0, 1]))
  expect([...(await answer.pooled())]).toEqual([0, 1])
})

test('a vector where a token was to be drawn, and the other way round, are the loss of the last stage', async () => {
  const one = pipelineOf()
  const answer = await one.open()
  one.pipeline.receive('c', said(one.steps[0]!, [1, 0]))
  await expect(answer.next()).rejects.toMatchObject(lostPeer('c'))
  const other = pipelineOf()
  const pooled = await other.open({ pooling })
  other.pipeline.receive('c', drawn(other.steps[0]!, 7))
  await expect(pooled.pooled()).rejects.toMatchObject(lostPeer('c'))
})

test('a session that cannot go on says why', async () => {
  const { pipeline, steps, open } = pipelineOf()
  const answer = await open({ pooling })
  pipeline.receive('c', errorFrame(steps[0]!, 'not-finite', 'not finite'))
  await expect(answer.pooled()).rejects.toMatchObject({ name: 'NotFiniteError' })
})
