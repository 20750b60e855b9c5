// A stage of `speculation.ts` in a process of its own, so that a control group can hold it to a share of a processor. With
// `--compute MS` it only waits so long for each step: what is measured then is the protocol, whatever else the machine does.
import { setTimeout as delay } from 'node:timers/promises'
import type { LayerRange } from '../../models/layers.ts'
import type { Manifest } from '../../models/manifest.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import { allocateHidden } from '../../models/runtime/hidden.ts'
import type { ForwardInput, ForwardOutput, ShardBatch } from '../../models/runtime/runtime.ts'
import type { Sampling } from '../../models/runtime/sampler.ts'
import { Stage, type Step } from '../../node/stage/stage.ts'
import { Turns } from '../../node/stage/turns.ts'

export interface StageSetup {
  manifest: Manifest
  range: LayerRange
  blobsDir: string
  maxTokens: number
  /** Absent: the weights are loaded, and steps computed. */
  computeMs?: number
}

/** What the process is told. Hidden states are plain memory on the way. */
export type StageOrder =
  | { op: 'load'; setup: StageSetup }
  | { op: 'open'; sessionId: string; sampling: Sampling }
  | { op: 'run'; input: Int32Array | Float32Array; step: Step }
  | { op: 'drop'; sessionId: string; epoch: number }
  | { op: 'close'; sessionId: string }

/** What it answers: a result of a step, or that an order is done. */
export type StageReport =
  | { of: 'step'; step: Step; hidden?: Float32Array; tokens?: { id: number; logprob: number; top: [] }[] }
  | { of: 'done' }

let stage: Stage
let hiddenSize = 0
const report = (message: StageReport) => process.send!(message)

async function load({ manifest, range, blobsDir, maxTokens, computeMs }: StageSetup): Promise<void> {
  hiddenSize = manifest.shape.hiddenSize
  const batch =
    computeMs === undefined
      ? await (
          await startRuntime({ threads: 1, spinUs: 0 }).then(runtime =>
            runtime.load({ manifest, range, blobsDir })
          )
        ).openBatch({ slots: 1, maxTokens })
      : waitingBatch(manifest, range, computeMs)
  stage = new Stage({
    batch,
    turns: new Turns(),
    tenant: 'bench',
    hiddenSize,
    maxTokens,
    frameTokens: 32,
    deliver: async (result, step) => {
      if (result.kind === 'hidden')
        report({ of: 'step', step, hidden: Float32Array.from(result.hidden.data) })
      if (result.kind === 'tokens')
        report({ of: 'step', step, tokens: result.tokens as { id: number; logprob: number; top: [] }[] })
    },
    onRowsFailed: (_, error) => {
      throw error
    }
  })
}

/** Steps that take a time and compute next to nothing: a token follows from the one before it. */
function waitingBatch({ shape, layers }: Manifest, range: LayerRange, computeMs: number): ShardBatch {
  const forward = async ({ input, sample }: ForwardInput): Promise<ForwardOutput> => {
    const startMs = performance.now()
    await delay(computeMs)
    const tookMs = performance.now() - startMs
    const tokens = input instanceof Int32Array ? input.length : input.tokens
    const value = input instanceof Int32Array ? input.at(-1)! : input.data[(tokens - 1) * hiddenSize]!
    if (range[1] === layers.length) {
      const id = (value * 31 + 7) % shape.vocabSize
      return sample
        ? { kind: 'token', token: { id, logprob: 0, top: [] }, computeMs: tookMs }
        : { kind: 'none', computeMs: tookMs }
    }
    const hidden = allocateHidden(tokens, hiddenSize)
    hidden.data.fill(value)
    return { kind: 'hidden', hidden, computeMs: tookMs }
  }
  const session = { exact: false, forward, trim: async () => {}, close: async () => {} }
  const decode = () => Promise.reject(new Error('one session runs alone here'))
  return { open: async () => session, decode, step: decode, close: async () => {} }
}

async function follow(order: StageOrder): Promise<void> {
  switch (order.op) {
    case 'load':
      await load(order.setup)
      return void report({ of: 'done' })
    case 'open': {
      const { sessionId, sampling } = order
      await stage.open(sessionId, { slot: 0, keepTokens: 0, withholdTokens: 0, sampling })
      return void report({ of: 'done' })
    }
    case 'run': {
      const { input, step } = order
      if (input instanceof Int32Array) return await stage.run(input, step)
      const hidden = allocateHidden(step.tokens, hiddenSize)
      hidden.data.set(input)
      return await stage.run(hidden, step)
    }
    case 'drop':
      return stage.dropBefore(order.sessionId, order.epoch)
    case 'close':
      await stage.closeSession(order.sessionId)
      report({ of: 'done' })
  }
}

process.on('message', (order: StageOrder) => void follow(order))
