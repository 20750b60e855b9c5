/**
 * Stages in processes of their own, each with one compute thread that a control group holds to a share of a processor, and
 * a pipeline over them. Source, links and the way back are in the process that measures; a link takes a frame at its rate,
 * then delays it.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import type { Sampling } from '../../models/runtime/sampler.ts'
import type { Guesses, PlannedStage } from '../../node/api.ts'
import type { Draft } from '../../node/source/draft/draft.ts'
import { Pipeline } from '../../node/source/pipeline/pipeline.ts'
import type { Step } from '../../node/stage/stage.ts'
import type { FrameRow, StageTiming } from '../../protocols/stage/frame.ts'
import { createQuota } from '../lab/cpu-quota.ts'
import type { MeasuredModel } from './runtime-models.ts'
import type { StageOrder, StageReport } from './speculation-stage.ts'
import { quantile } from './statistics.ts'

const NO_PREDICTION = { ttftMs: 0, tpotMs: 0, stages: [], linksMs: [] }
const SAMPLING: Sampling = { temperature: 0.8, topP: 0.95, seed: 42, topLogprobs: 0 }

export interface Wire {
  latencyMs: number
  mbps: number
}

/** What is asked of a line. */
export interface Asked {
  prompt: readonly number[]
  newTokens: number
  /** Tokens of the answer that are known, as after a loss. */
  known?: readonly number[]
  exact?: boolean
  ends?: ReadonlySet<number>
  draft?: Draft | undefined
  /** Called with each token, and when it came. */
  onToken?: (atMs: number) => void
}

export interface Measured {
  ids: number[]
  /** From the open sessions to the first token, and between two tokens. */
  firstMs: number
  tokenMs: number
  /** What a stage computed for one token, in the median; undefined where none was alone in its step. */
  stageMs: number | undefined
  guesses: Guesses | undefined
}

export interface StagesInit {
  /** Share of a processor that each stage is held to, where that is permitted. */
  cpus: number
  /** Prompt and answer of each session. */
  maxTokens: number
  /** Sessions at once. @default 1 */
  slots?: number
  /** Sequences with any number of tokens in a run. @default 1 */
  lanes?: number
  /** Nothing is computed: all stages together wait so long for a step. */
  computeMs?: number | undefined
}

/** A stage's process. */
class StageProcess {
  readonly #child: ChildProcess
  onStep: (report: StageReport & { of: 'step' }) => void = () => {}
  readonly #orders: (() => void)[] = []

  constructor() {
    this.#child = fork(new URL('./speculation-stage.ts', import.meta.url), { serialization: 'advanced' })
    this.#child.on('message', (report: StageReport) => {
      if (report.of === 'step') this.onStep(report)
      else this.#orders.shift()?.()
    })
    this.#child.on('exit', code => {
      if (code) throw new Error(`a stage's process ended with ${code}`)
    })
  }

  get pid(): number {
    return this.#child.pid!
  }

  tell(order: StageOrder): void {
    this.#child.send(order)
  }

  /** Tells it something and waits until that is done. */
  async order(order: StageOrder): Promise<void> {
    const done = new Promise<void>(resolve => this.#orders.push(resolve))
    this.tell(order)
    await done
  }

  async end(): Promise<void> {
    const exit = once(this.#child, 'exit')
    this.#child.kill()
    await exit
  }
}

/** One direction of a link: a frame after the other at its rate, each then on its way for the delay. */
class Link {
  readonly #wire: Wire
  #freeAtMs = 0

  constructor(wire: Wire) {
    this.#wire = wire
  }

  send(bytes: number, arrive: () => void): void {
    const nowMs = performance.now()
    this.#freeAtMs = Math.max(nowMs, this.#freeAtMs) + (8 * bytes) / (1000 * this.#wire.mbps)
    const ms = this.#freeAtMs + this.#wire.latencyMs - nowMs
    // Timers know no part of a millisecond, and passing a message between processes takes one.
    if (ms < 1) arrive()
    else setTimeout(arrive, ms)
  }
}

/** Stages over links, and the answers that they draw. */
export class Line {
  readonly #pipeline: Pipeline
  /** What stages computed for steps of one token, of the answer that is drawn. */
  #computeMs: number[] = []

  constructor({ stages, model: { manifest }, slots }: StageGroup, wire: Wire) {
    const links = stages.map(() => new Link(wire))
    const news = stages.map(() => new Link(wire))
    const { hiddenSize, vocabSize } = manifest.shape
    const own = new Map<string, StageTiming>()
    const keyOf = ({ sessionId, position }: FrameRow) => `${sessionId} ${position}`
    const planned = stages.map(
      (_, i): PlannedStage => ({ peerId: `${i}`, name: `${i}`, layers: [i, i + 1], weightBytes: 0 })
    )
    const [first] = stages
    const pipeline: Pipeline = new Pipeline(
      {
        stages: {
          first: {
            run: async (input, step) => first!.tell({ op: 'run', input: input as Int32Array, step }),
            timingOf: row => own.get(keyOf(row)),
            dropBefore: (sessionId, epoch) => first!.tell({ op: 'drop', sessionId, epoch })
          },
          remote: planned.slice(1),
          open: async ({ sessionId, slot, sampling, exact }) => {
            await Promise.all(
              stages.map(stage => stage.order({ op: 'open', sessionId, slot, sampling, exact }))
            )
            return { exact }
          },
          close: async sessionId => {
            await Promise.all(stages.map(stage => stage.order({ op: 'close', sessionId })))
          },
          unconfirmed: async () => new Set()
        },
        sessions: { addOwner: () => {}, removeOwner: () => {}, dropBefore: () => {} },
        peers: {
          peerId: 'source',
          suspects: () => new Set(),
          send: async (peerId, { rows: [row] }) => {
            const { sessionId, epoch = 0 } = row!
            news[Number(peerId)]!.send(64, () =>
              stages[Number(peerId)]!.tell({ op: 'drop', sessionId, epoch })
            )
          }
        }
      },
      {
        slots,
        microBatches: 1,
        strategy: 'no-bubble',
        predicted: NO_PREDICTION,
        vocabSize,
        hiddenSize: 1,
        onSlow: () => {}
      }
    )
    this.#pipeline = pipeline
    stages.forEach((stage, i) => {
      stage.onStep = ({ step, hidden, tokens }) => {
        if (step.tokens === 1) this.#computeMs.push(step.timings.at(-1)!.computeMs)
        if (i === 0) for (const row of step.rows) own.set(keyOf(row), step.timings[0]!)
        const next = stages[i + 1]
        if (hidden !== undefined && next !== undefined)
          links[i]!.send(4 * hiddenSize * step.tokens, () => next.tell({ op: 'run', input: hidden, step }))
        const back = (to: Step) => pipeline.accept(to.rows, tokens!, to.timings)
        if (tokens !== undefined && stages.length === 1) back(step)
        else if (tokens !== undefined) links[i]!.send(64, () => back(step))
      }
    })
  }

  /** One answer; several may be drawn at once. */
  async answer(asked: Asked): Promise<Measured> {
    const { prompt, newTokens, known = [], exact = false, ends = new Set(), draft, onToken } = asked
    const answer = await this.#pipeline.open(
      {
        prompt,
        known,
        exact,
        ends,
        maxTokens: newTokens,
        // Nobody finds what another has left.
        scope: `${Math.random()}`,
        sampling: SAMPLING,
        predicted: NO_PREDICTION,
        draft
      },
      new AbortController().signal
    )
    this.#computeMs = []
    const openMs = performance.now()
    const ids: number[] = []
    let firstAtMs = 0
    while (ids.length < newTokens && !ends.has(ids.at(-1) ?? -1)) {
      ids.push((await answer.next()).id)
      const nowMs = performance.now()
      if (ids.length === 1) firstAtMs = nowMs
      onToken?.(nowMs)
    }
    const tokenMs = (performance.now() - firstAtMs) / Math.max(1, ids.length - 1)
    const { guesses } = answer
    await answer.close()
    const stageMs = quantile(this.#computeMs, 0.5)
    return { ids, firstMs: firstAtMs - openMs, tokenMs, stageMs, guesses }
  }
}

/** The stages of a model. */
export interface StageGroup {
  stages: StageProcess[]
  model: Pick<MeasuredModel, 'manifest' | 'blobsDir'>
  slots: number
  /** Whether each is held to its share. */
  held: boolean
  end(): Promise<void>
}

/** Processes for so many equal parts of a model. */
export async function stagesOf(
  model: StageGroup['model'],
  count: number,
  { cpus, maxTokens, slots = 1, lanes = 1, computeMs }: StagesInit
): Promise<StageGroup> {
  const { manifest, blobsDir } = model
  const quotas: { remove(): Promise<void> }[] = []
  const total = manifest.layers.length
  const stages = await Promise.all(
    Array.from({ length: count }, async (_, i) => {
      const stage = new StageProcess()
      const name = `edgeshard-line-${process.pid}-${stage.pid}`
      const quota = computeMs === undefined ? await createQuota(name, cpus) : null
      if (quota !== null) {
        await writeFile(quota.procs, `${stage.pid}`)
        quotas.push(quota)
      }
      const range: [number, number] = [Math.round((i * total) / count), Math.round(((i + 1) * total) / count)]
      const waits = computeMs === undefined ? {} : { computeMs: computeMs / count }
      await stage.order({
        op: 'load',
        setup: { manifest, range, blobsDir, maxTokens, slots, lanes, ...waits }
      })
      return stage
    })
  )
  const end = async () => {
    await Promise.all(stages.map(stage => stage.end()))
    for (const quota of quotas) await quota.remove()
  }
  return { stages, model, slots, held: quotas.length === count, end }
}

/** What figures of stages that were `held`, or not, are to be read with. */
export function quotaWords(held: boolean, cpus: number): string {
  return held
    ? `each stage under a quota of ${cpus} of a processor, period 10 ms`
    : 'no quota was permitted: stages take each other’s time'
}
