import type { SampledToken } from '../../../../models/runtime/runtime.ts'
import type { PlannedStage } from '../../../../node/api.ts'
import type { AnswerRequest } from '../../../../node/source/pipeline/answer.ts'
import { Pipeline, type PipelineInit } from '../../../../node/source/pipeline/pipeline.ts'
import type { PipelineStages } from '../../../../node/source/pipeline/pipeline-stages.ts'
import type { Step } from '../../../../node/stage/stage.ts'
import type { StageCode, StageFrame } from '../../../../protocols/stage/index.ts'

export const token = (id: number): SampledToken => ({ id, logprob: 0, top: [] })

const remote = (peerId: string, start: number): PlannedStage => ({
  peerId,
  name: peerId,
  layers: [start, start + 2],
  weightBytes: 0
})

interface Played extends PipelineInit, Omit<PipelineStages, 'open'> {
  /** What opening a session does; none is exact. */
  open(...args: Parameters<PipelineStages['open']>): Promise<void>
  suspects(): Set<string>
}

/** A pipeline over a first stage that takes note of its steps, and stages on peers `b` and `c` that the test plays. */
export function pipelineOf(over: Partial<Played> = {}) {
  const steps: (Step & { input: Int32Array })[] = []
  const closed: string[] = []
  const owners = new Set<string>()
  const first = {
    run: async (input: Int32Array, step: Step) => void steps.push({ ...step, input }),
    timingOf: () => undefined,
    dropBefore: () => {}
  }
  const stages: Omit<PipelineStages, 'remote'> & { remote: readonly PlannedStage[] } = {
    first: over.first ?? (first as PipelineStages['first']),
    remote: over.remote ?? [remote('b', 2), remote('c', 4)],
    open: async (...args) => {
      await over.open?.(...args)
      return { exact: false }
    },
    close: over.close ?? (async (sessionId: string) => void closed.push(sessionId)),
    unconfirmed: over.unconfirmed ?? (async () => new Set<string>())
  }
  const sessions = {
    addOwner: (sessionId: string) => void owners.add(sessionId),
    removeOwner: (sessionId: string) => void owners.delete(sessionId),
    dropBefore: () => {}
  }
  const dropped: { peerId: string; frame: StageFrame }[] = []
  const peers = {
    peerId: 'source',
    suspects: over.suspects ?? (() => new Set<string>()),
    send: async (peerId: string, frame: StageFrame) => void dropped.push({ peerId, frame })
  }
  const pipeline = new Pipeline(
    { stages, sessions, peers },
    {
      slots: 4,
      microBatches: 1,
      strategy: 'no-bubble',
      predicted: { ttftMs: 1, tpotMs: 1, stages: [], linksMs: [] },
      vocabSize: 100,
      hiddenSize: 2,
      onSlow() {},
      ...over
    }
  )
  const open = (request: Partial<AnswerRequest> = {}, signal = new AbortController().signal) =>
    pipeline.open(
      {
        prompt: [1, 2, 3],
        known: [],
        ends: new Set(),
        maxTokens: 100,
        scope: '',
        sampling: { temperature: 0, topP: 1, seed: 0, topLogprobs: 0 },
        predicted: { ttftMs: 1, tpotMs: 1, stages: [], linksMs: [] },
        ...request
      },
      signal
    )
  return { pipeline, stages, steps, closed, owners, dropped, open }
}

/** The frame by which `c` answers a step: token `id` for each of its sessions. */
export const drawn = ({ rows, tokens }: Step, id: number): StageFrame => ({
  type: 'token',
  rows,
  tokens,
  sample: true,
  timings: [],
  hiddenSize: 0,
  drawn: rows.map(() => token(id))
})

export const errorFrame = ({ rows }: Step, code: StageCode, message: string): StageFrame => ({
  type: 'error',
  rows,
  tokens: 0,
  sample: false,
  timings: [],
  hiddenSize: 0,
  code,
  message
})
