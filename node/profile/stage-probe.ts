import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ModelShape } from '../../models/manifest.ts'
import { cpuQuota, sustainedMs } from '../../models/runtime/cpu-quota.ts'
import { allocateHidden } from '../../models/runtime/hidden.ts'
import { randomManifest, writeRandomLayer } from '../../models/runtime/random-weights.ts'
import type { Runtime, ShardBatch } from '../../models/runtime/runtime.ts'
import type { StageTiming } from '../../protocols/stage/frame.ts'
import type { StageTimes } from '../api.ts'
import { FRAME_TURNS, TOKEN_TURNS } from '../constants.ts'
import { delay } from '../delay.ts'
import { Stage } from '../stage/stage.ts'
import { Turns } from '../stage/turns.ts'

/** A layer that takes next to nothing, with hidden states of ordinary width: what is left is the way to it and back. */
const SHAPE: ModelShape = {
  architecture: 'llama',
  decoderLayers: 1,
  hiddenSize: 1024,
  ffnSize: 64,
  heads: 4,
  kvHeads: 1,
  headSize: 64,
  vocabSize: 32,
  contextLength: 256,
  normKind: 'rms',
  normEpsilon: 1e-5,
  rope: { theta: 10_000 },
  blocks: [
    {
      attention: { kind: 'grouped-query', bias: 'none', queryKeyNorm: 'none', rotary: 'half-split' },
      feedForward: { kind: 'gated', activation: 'silu' },
      norms: 'before'
    }
  ],
  layout: [0]
}
/** The first steps wait for what is compiled and allocated once. */
const WARM_STEPS = 4
const STEPS = 16
/** Between two steps of an answer over several devices each thread has gone to sleep. */
const PAUSE_MS = 2
const SESSIONS = ['one', 'other']

/**
 * Times what a stage takes this device beside its layers: to start, and in each step its queue, and the way to the thread that
 * computes and back. Steps go through a stage as those of answers do; what the layer itself took is left out.
 *
 * @throws {RuntimeStoppedError}, or the signal's reason
 */
export async function timeStage(
  runtime: Pick<Runtime, 'load'>,
  { signal }: { signal: AbortSignal }
): Promise<StageTimes> {
  const blobsDir = await mkdtemp(join(tmpdir(), 'edgeshard-stage-'))
  try {
    const manifest = randomManifest(SHAPE, undefined)
    await writeRandomLayer(manifest.layers[1]!, blobsDir)
    const beganMs = performance.now()
    const shard = await runtime.load({ manifest, range: [1, 2], blobsDir, lanes: 2 }, { signal })
    try {
      const batch = await shard.openBatch({ slots: SESSIONS.length, maxTokens: SHAPE.contextLength })
      const startMs = performance.now() - beganMs
      return { ...(await new StageProbe(batch).time(signal)), startMs }
    } finally {
      await shard.release()
    }
  } finally {
    await rm(blobsDir, { recursive: true, force: true })
  }
}

/** A stage of that layer, and what its steps took. */
class StageProbe {
  readonly #stage: Stage
  /** In the order in which the steps were computed. */
  readonly #timings: StageTiming[] = []
  readonly #positions = new Map<string, number>()

  constructor(batch: ShardBatch) {
    this.#stage = new Stage({
      batch,
      turns: new Turns(),
      tenant: 'probe',
      hiddenSize: SHAPE.hiddenSize,
      maxTokens: SHAPE.contextLength,
      frameTokens: 1,
      deliver: async (_, { timings }) => void this.#timings.push(timings.at(-1)!),
      onRowsFailed: (_, error) => {
        throw error
      }
    })
  }

  async time(signal: AbortSignal): Promise<Omit<StageTimes, 'startMs'>> {
    for (const [slot, session] of SESSIONS.entries()) {
      await this.#stage.open(session, { slot, keepTokens: 0, withholdTokens: 0 })
    }
    try {
      const turnMs = await this.#alone(signal)
      const { betweenMs, keptMs } = await this.#shared(signal)
      const sharedTurnMs = Math.min(turnMs, betweenMs)
      if (keptMs === undefined) return { turnMs, sharedTurnMs }
      const [alone, shared] = [turnMs, sharedTurnMs].map(ms => Math.max(ms, keptMs)) as [number, number]
      const besides = { tokenMs: TOKEN_TURNS * keptMs, frameMs: FRAME_TURNS * keptMs }
      return { turnMs: alone, sharedTurnMs: shared, ...besides }
    } finally {
      await this.#stage.close()
    }
  }

  /** Steps one at a time: until each is handed on. */
  async #alone(signal: AbortSignal): Promise<number> {
    for (let i = 0; i < WARM_STEPS + STEPS; i++) {
      await delay(PAUSE_MS, signal)
      await this.#step(SESSIONS[0]!)
    }
    const timings = this.#timings.splice(0).slice(WARM_STEPS)
    return middleOf(timings.map(({ arrivedAtMs, sentAtMs, computeMs }) => sentAtMs - arrivedAtMs - computeMs))
  }

  /**
   * Steps that follow each other: from the one to the next, of which the layer takes only a part. `keptMs`: what the processors'
   * time of all that takes at the pace of a quota, for which so few steps are over too soon; undefined where there is none.
   */
  async #shared(signal: AbortSignal): Promise<{ betweenMs: number; keptMs: number | undefined }> {
    await this.#following(WARM_STEPS, signal)
    this.#timings.length = 0
    const before = process.cpuUsage()
    await this.#following(STEPS, signal)
    const { user, system } = process.cpuUsage(before)
    const timings = this.#timings.splice(0)
    const between = timings.slice(1).map(({ sentAtMs, computeMs }, i) => {
      return sentAtMs - timings[i]!.sentAtMs - computeMs
    })
    const quota = cpuQuota()
    const cpuMs = (user + system) / 1000 / timings.length
    const layerMs = middleOf(timings.map(({ computeMs }) => computeMs))
    const keptMs = quota && Math.max(0, sustainedMs(0, cpuMs, quota) - layerMs)
    return { betweenMs: middleOf(between), keptMs }
  }

  /** So many steps of each session, one of them behind the other. */
  async #following(steps: number, signal: AbortSignal): Promise<void> {
    const each = SESSIONS.map(async session => {
      for (let i = 0; i < steps; i++) {
        signal.throwIfAborted()
        await this.#step(session)
      }
    })
    await Promise.all(each)
  }

  async #step(sessionId: string): Promise<void> {
    const position = this.#positions.get(sessionId) ?? 0
    this.#positions.set(sessionId, position + 1)
    const hidden = allocateHidden(1, SHAPE.hiddenSize)
    hidden.data.fill(1)
    await this.#stage.run(hidden, { rows: [{ sessionId, position }], tokens: 1, sample: true, timings: [] })
  }
}

/** The middle one of what was measured, never less than nothing. */
function middleOf(values: readonly number[]): number {
  return Math.max(0, values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0)
}
