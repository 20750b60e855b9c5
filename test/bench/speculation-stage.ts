// A stage of `stage-line.ts` in a process of its own, so that a control group can hold it to a share of a processor. With
// `--compute MS` it only waits so long for each step: what is measured then is the protocol, whatever else the machine does.
import { setTimeout as delay } from 'node:timers/promises'
import type { LayerRange } from '../../models/layers.ts'
import type { Manifest } from '../../models/manifest.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import { decodeByStep } from '../../models/runtime/decode.ts'
import { allocateHidden } from '../../models/runtime/hidden.ts'
import type {
  ForwardInput,
  ForwardOutput,
  RaggedOutput,
  RaggedStep,
  ShardBatch
} from '../../models/runtime/runtime.ts'
import type { Sampling } from '../../models/runtime/sampler.ts'
import { Stage, type Step } from '../../node/stage/stage.ts'
import { Turns } from '../../node/stage/turns.ts'

export interface StageSetup {
  manifest: Manifest
  range: LayerRange
  blobsDir: string
  maxTokens: number
  slots: number
  lanes: number
  /** Absent: the weights are loaded, and steps computed. */
  computeMs?: number
}

/** What the process is told. Hidden states are plain memory on the way. */
export type StageOrder =
  | { op: 'load'; setup: StageSetup }
  | { op: 'open'; sessionId: string; slot: number; sampling: Sampling; exact: boolean }
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

async function load({
  manifest,
  range,
  blobsDir,
  maxTokens,
  slots,
  lanes,
  computeMs
}: StageSetup): Promise<void> {
  hiddenSize = manifest.shape.hiddenSize
  const batch =
    computeMs === undefined
      ? await (
          await startRuntime({ threads: 1, spinUs: 0 }).then(runtime =>
            runtime.load({ manifest, range, blobsDir, lanes })
          )
        ).openBatch({ slots, maxTokens })
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
  const isLast = range[1] === layers.length
  const step = async (_: unknown, { parts, input }: RaggedStep): Promise<RaggedOutput> => {
    const startMs = performance.now()
    await delay(computeMs)
    const tookMs = performance.now() - startMs
    const values =
      input instanceof Int32Array
        ? [...input]
        : Array.from({ length: input.tokens }, (_, i) => input.data[i * hiddenSize]!)
    if (!isLast) {
      const hidden = allocateHidden(values.length, hiddenSize)
      values.forEach((value, i) => {
        hidden.data.fill(value, i * hiddenSize, (i + 1) * hiddenSize)
      })
      return { kind: 'hidden', hidden, computeMs: tookMs }
    }
    let end = 0
    const drawn = parts.map(({ tokens, draws }) => {
      end += tokens
      const ids = values.slice(end - draws, end).map(value => (value * 31 + 7) % shape.vocabSize)
      return ids.map(id => ({ id, logprob: 0, top: [] }))
    })
    return { kind: 'drawn', drawn, computeMs: tookMs }
  }
  const forward = async ({ position, input, sample }: ForwardInput): Promise<ForwardOutput> => {
    const tokens = input instanceof Int32Array ? input.length : input.tokens
    const output = await step([], { parts: [{ position, tokens, draws: sample ? 1 : 0 }], input })
    if (output.kind === 'hidden') return output
    const token = output.drawn[0]![0]
    return token ? { kind: 'token', token, computeMs: output.computeMs } : { ...output, kind: 'none' }
  }
  const session = { exact: false, forward, trim: async () => {}, close: async () => {} }
  const batch: ShardBatch = {
    open: async () => ({ ...session }),
    step,
    decode: (sessions, input) => decodeByStep(batch, sessions, input),
    close: async () => {}
  }
  return batch
}

async function follow(order: StageOrder): Promise<void> {
  switch (order.op) {
    case 'load':
      await load(order.setup)
      return void report({ of: 'done' })
    case 'open': {
      const { sessionId, slot, sampling, exact } = order
      await stage.open(sessionId, { slot, keepTokens: 0, withholdTokens: 0, sampling, exact })
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
