import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime, SampledToken, Shard } from '../../models/runtime/runtime.ts'
import type { Sampling } from '../../models/runtime/sampler.ts'
import { StageLostError } from '../../node/errors.ts'
import type { Draft } from '../../node/source/draft/draft.ts'
import { Pipeline } from '../../node/source/pipeline/pipeline.ts'
import { copyOf } from '../../node/stage/rows.ts'
import { Stage, type Step, type StepResult } from '../../node/stage/stage.ts'
import { Turns } from '../../node/stage/turns.ts'
import { prng } from '../fixtures/prng.ts'
import { BIASED, type RandomModel, type RandomModelOptions, randomModel } from '../fixtures/random-model.ts'
import { OracleDraft } from '../node/source/oracle-draft.ts'

const CASES: Record<string, RandomModelOptions> = {
  float32: {},
  q4: { quantization: { bits: 4, blockSize: 32 } },
  'q8, sinks and biases': { shape: BIASED, quantization: { bits: 8, blockSize: 32 } }
}
/** Tokens that are drawn of each model: `npm run test:exact` draws more of them. */
const TOKENS = Number(process.env.EDGESHARD_EXACT_TOKENS ?? 250)
const SLOTS = 3
const MAX_TOKENS = 120
/** Answers that others are compared with: each is asked for again and again. */
const TEXTS = 8
const PREDICTED = { ttftMs: 0, tpotMs: 0, stages: [], linksMs: [] }
/** Where the model is cut, as shares of its layers. */
const CUTS = [[], [0.5], [0.3, 0.7], [0.2, 0.4, 0.8]]

interface Text {
  prompt: number[]
  sampling: Sampling
  ends: Set<number>
  maxTokens: number
  /** What is drawn for it alone. */
  drawn: SampledToken[]
}

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

/** The stages of one placement of a model, with the pipeline over them, until one of them is lost. */
class Placement {
  readonly pipeline: Pipeline
  /** Resolves when it is lost and has ended. */
  over: Promise<void> | undefined
  readonly #stages: Stage[]

  private constructor(stages: Stage[], vocabSize: number, hiddenSize: number) {
    this.#stages = stages
    const [first, ...others] = stages
    this.pipeline = new Pipeline(
      {
        stages: {
          first: first!,
          remote: others.map((_, i) => ({
            peerId: `${i + 1}`,
            name: `${i + 1}`,
            layers: [i, i + 1],
            weightBytes: 0
          })),
          open: async ({ sessionId, slot, keepTokens, intactFrom, copyFrom, sampling, exact }) => {
            const opened = await Promise.all(
              stages.map((stage, i) =>
                stage.open(sessionId, {
                  slot,
                  keepTokens: i < intactFrom ? 0 : keepTokens,
                  copyFrom,
                  withholdTokens: i === intactFrom - 1 ? keepTokens : 0,
                  sampling,
                  exact
                })
              )
            )
            return { exact: opened.every(({ exact }) => exact) }
          },
          close: async sessionId => {
            await Promise.all(stages.map(stage => stage.closeSession(sessionId)))
          },
          unconfirmed: async () => new Set()
        },
        sessions: { addOwner: () => {}, removeOwner: () => {}, dropBefore: () => {} },
        peers: {
          peerId: 'source',
          suspects: () => new Set(),
          send: async (peerId, { rows: [row] }) =>
            stages[Number(peerId)]!.dropBefore(row!.sessionId, row!.epoch ?? 0)
        }
      },
      {
        slots: SLOTS,
        microBatches: 1,
        strategy: 'no-bubble',
        predicted: PREDICTED,
        vocabSize,
        hiddenSize,
        onSlow: () => {}
      }
    )
  }

  /** @param shardOf loads a range, or has loaded it */
  static async open(
    { manifest }: RandomModel,
    cut: readonly number[],
    shardOf: (range: [number, number]) => Promise<Shard>
  ): Promise<Placement> {
    const count = manifest.layers.length
    const edges = [0, ...cut.map(share => Math.round(share * count)), count]
    const stages: Stage[] = []
    const { hiddenSize, vocabSize } = manifest.shape
    for (let i = 0; i + 1 < edges.length; i++) {
      const shard = await shardOf([edges[i]!, edges[i + 1]!])
      stages.push(
        new Stage({
          batch: await shard.openBatch({ slots: SLOTS, maxTokens: MAX_TOKENS }),
          turns: new Turns(),
          tenant: 'source',
          hiddenSize,
          maxTokens: MAX_TOKENS,
          frameTokens: 32,
          deliver: (result, step) => placement.#deliver(i, result, step),
          onRowsFailed: (rows, error) => placement.pipeline.rowsFailed(rows, error)
        })
      )
    }
    const placement = new Placement(stages, vocabSize, hiddenSize)
    return placement
  }

  /** Frames are on their way for a while, and keep their order. */
  async #deliver(from: number, result: StepResult, step: Step): Promise<void> {
    await new Promise(setImmediate)
    const { rows, tokens, sample, timings } = step
    if (result.kind === 'tokens') this.pipeline.accept(rows, result.tokens, timings)
    if (result.kind !== 'hidden') return
    // The stage writes over its own memory while a frame is on its way.
    const hidden = copyOf(result.hidden)
    try {
      const next = this.#stages[from + 1]!.run(hidden, { rows, tokens, sample, timings })
      next.catch(error => this.pipeline.fail(error))
    } catch (error) {
      this.pipeline.fail(error as Error)
    }
  }

  /** A stage dies: every answer has to go on elsewhere. */
  async lose(): Promise<void> {
    this.pipeline.fail(new StageLostError('it was killed', '1'))
    await this.close()
  }

  async close(): Promise<void> {
    await this.pipeline.closeAll()
    await Promise.all(this.#stages.map(stage => stage.close()))
  }
}

/** Every kind of guess: right, wrong, wrong then right, ends of answers, and what is no token at all. */
function adversary(text: Text, vocabSize: number, random: () => number): Draft | undefined {
  const kind = Math.floor(random() * 6)
  if (kind === 0) return undefined
  const answer = text.drawn.map(({ id }) => id)
  const init = { promptTokens: text.prompt.length, answer, vocabSize, seed: Math.floor(random() * 1e6) }
  if (kind < 4) return new OracleDraft({ ...init, right: [0, 0.7, 1][kind - 1]! })
  const truth = new OracleDraft({ ...init, right: 1 })
  const odd = kind === 4 ? [...text.ends][0]! : vocabSize + 3
  return {
    propose: async (tokens, count) => {
      const right = await truth.propose(tokens, count)
      return right.map(id => (random() < 0.3 ? odd : id))
    }
  }
}

async function textsOf(shard: Shard, random: () => number): Promise<Text[] | undefined> {
  const { vocabSize } = shard.manifest.shape
  const below = (n: number) => Math.floor(random() * n)
  const common = Array.from({ length: 70 }, () => below(vocabSize))
  const texts: Text[] = []
  for (let i = 0; i < TEXTS; i++) {
    const prompt = [
      ...common.slice(0, below(40)),
      ...Array.from({ length: 1 + below(40) }, () => below(vocabSize))
    ]
    const sampling = { temperature: i % 2 === 0 ? 0 : 0.9, topP: 0.9, seed: i, topLogprobs: 3 }
    const session = await shard.open({ maxTokens: MAX_TOKENS, sampling, exact: true })
    if (!session.exact) return undefined
    const drawn: SampledToken[] = []
    let input = prompt
    for (let position = 0; drawn.length < 30; position += input.length, input = [drawn.at(-1)!.id]) {
      const output = await session.forward({ position, input: Int32Array.from(input), sample: true })
      if (output.kind !== 'token') throw new Error('no token was drawn')
      drawn.push(output.token)
    }
    await session.close()
    // Some end by a token, the others by their length.
    const ends = new Set(i % 3 === 0 ? [drawn.at(20 + below(8))!.id] : [vocabSize - 1])
    const end = drawn.findIndex(({ id }) => ends.has(id))
    texts.push({ prompt, sampling, ends, maxTokens: 30, drawn: end < 0 ? drawn : drawn.slice(0, end + 1) })
  }
  return texts
}

describe.each(Object.entries(CASES))('%s', (_, options) => {
  it('exact answers with guesses of any kind, that join and leave, behind caches, and lose stages, have the bits that they have alone', async ctx => {
    await using model = await randomModel({
      ...options,
      shape: { ...options.shape, contextLength: MAX_TOKENS }
    })
    const random = prng(11)
    const below = (n: number) => Math.floor(random() * n)
    const { manifest, blobsDir } = model
    const shards = new Map<string, Promise<Shard>>()
    const shardOf = (range: [number, number]) => {
      const key = range.join('-')
      const shard = shards.get(key) ?? runtime.load({ manifest, range, blobsDir, lanes: SLOTS })
      shards.set(key, shard)
      return shard
    }
    const texts = await textsOf(await shardOf([0, manifest.layers.length]), random)
    // `exact.test.ts` looks whether it is the kernels.
    if (texts === undefined) return ctx.skip('the kernels of this machine do not keep bits')
    const counts = { drawn: 0, sent: 0, held: 0, dropped: 0, cached: 0, losses: 0, left: 0 }
    let placement = await Placement.open(model, CUTS[0]!, shardOf)
    let tokensUntilLoss = 60

    const lose = async () => {
      const lost = placement
      counts.losses++
      lost.over ??= lost.lose().then(async () => {
        placement = await Placement.open(model, CUTS[below(CUTS.length)]!, shardOf)
      })
      await lost.over
    }

    const answer = async (text: Text) => {
      const drawn: SampledToken[] = []
      const draft = adversary(text, manifest.shape.vocabSize, random)
      // As a stop string does, which may be seen behind any token.
      const leavesAfter = below(4) === 0 ? 1 + below(20) : Infinity
      const over = () => drawn.length >= Math.min(text.drawn.length, leavesAfter)
      while (!over()) {
        const placed = placement
        try {
          const open = await placed.pipeline.open(
            {
              prompt: text.prompt,
              known: drawn.map(({ id }) => id),
              ends: text.ends,
              maxTokens: text.maxTokens - drawn.length,
              scope: 'mine',
              sampling: text.sampling,
              exact: true,
              predicted: PREDICTED,
              draft
            },
            new AbortController().signal
          )
          counts.cached += open.cachedTokens
          try {
            while (!over()) {
              drawn.push(await open.next())
              counts.drawn++
              if (--tokensUntilLoss === 0) {
                tokensUntilLoss = 40 + below(80)
                void lose()
              }
            }
            if (leavesAfter < text.drawn.length) counts.left++
          } finally {
            counts.sent += open.guesses?.sent ?? 0
            counts.held += open.guesses?.held ?? 0
            counts.dropped += open.guesses?.dropped ?? 0
            if (placed.over === undefined) await open.close()
          }
        } catch (error) {
          if (placed.over === undefined) throw error
          await placed.over
        }
      }
      expect(drawn).toEqual(text.drawn.slice(0, drawn.length))
    }

    // How many guesses are fed hangs on the machine's pace.
    while (counts.drawn < TOKENS || Object.values(counts).includes(0)) {
      const together = 1 + below(SLOTS)
      await Promise.all(Array.from({ length: together }, () => answer(texts[below(TEXTS)]!)))
    }
    await placement.over
    await placement.close()
    expect(counts.sent).toBe(counts.held + counts.dropped)
  })
})
