import { afterAll, beforeAll, expect, it } from 'vitest'
import { NO_ATTENTION, type UnitSpec } from '../../models/block-schema.ts'
import { arrangeBlocks, plainBlock } from '../../models/blocks.ts'
import { LLAMA_BLOCK } from '../../models/import/architectures/architecture.ts'
import { type Block, type ModelShape, parseManifest, serializeManifest } from '../../models/manifest.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime, SampledToken } from '../../models/runtime/runtime.ts'
import { prng } from '../fixtures/prng.ts'
import { randomModel, TINY_SHAPE } from '../fixtures/random-model.ts'
import { GREEDY, LocalStages } from '../fixtures/shards.ts'

const SEEDS = Array.from({ length: 8 }, (_, i) => i + 1)
const TOKENS = 24
/** Float32, added in other orders; where products are of 8 bits, what rounding to the other step moves. */
const TOLERANCE = { none: 2e-4, rounded: 0.3 }

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

/** Features of all families, thrown together. */
class Mixture {
  readonly #random: () => number

  constructor(seed: number) {
    this.#random = prng(seed)
  }

  pick<T>(...values: T[]): T {
    return values[Math.floor(this.#random() * values.length)]!
  }

  tokens(): number[] {
    return Array.from({ length: TOKENS }, () => Math.floor(this.#random() * TINY_SHAPE.vocabSize))
  }

  #maybe<T extends object>(value: T): T | Record<string, never> {
    return this.pick(true, false) ? value : {}
  }

  shape(): ModelShape {
    const shape = {
      ...TINY_SHAPE,
      rope: this.pick<ModelShape['rope']>(TINY_SHAPE.rope, { theta: 500, rotated: 8 }),
      normKind: this.pick('rms', 'rms', 'layer'),
      ...this.#maybe({ logitSoftcap: 6 })
    } as const
    const blocks = [1, 2, 3].map(() => plainBlock(shape, this.#block()))
    return { ...shape, ...arrangeBlocks(blocks) }
  }

  #block(): Block {
    const scale = this.#maybe({ outputScale: true as const })
    switch (this.pick('whole', 'whole', 'whole', 'mixing', 'feed-forward')) {
      case 'mixing':
        return { ...this.#mixing(), feedForward: { kind: 'none' }, norms: 'before', ...scale }
      case 'feed-forward':
        return { attention: NO_ATTENTION, feedForward: this.#feedForward(), norms: 'before', ...scale }
    }
    const norms = this.pick('before', 'after', 'around')
    return { ...this.#mixing(), feedForward: this.#feedForward(), norms, ...scale }
  }

  #mixing(): Pick<Block, 'attention' | 'recurrence'> {
    const kind = this.pick('grouped', 'grouped', 'latent', 'recurrence')
    if (kind === 'recurrence') {
      const recurrence = this.pick<NonNullable<Block['recurrence']>>(
        { kind: 'gated-delta', taps: 4, keyHeads: 2, valueHeads: 4, keySize: 16, valueSize: 8 },
        { kind: 'short-convolution', taps: 3 },
        {
          ...{ kind: 'state-space', taps: 2, heads: 4, headSize: 8, groups: 2, stateSize: 16, bias: true },
          ...this.#maybe({ groupNorm: true as const })
        }
      )
      return { attention: NO_ATTENTION, recurrence }
    }
    if (kind === 'latent') {
      const latent = { size: 32, unturned: 16, value: 8, ...this.#maybe({ query: 32 }) }
      const sizes = { kvHeads: 1, headSize: 40, rope: { theta: 100, rotated: 8 }, scale: 0.2 }
      return { attention: { ...LLAMA_BLOCK.attention, kind: 'latent', latent, ...sizes } }
    }
    return {
      attention: {
        ...LLAMA_BLOCK.attention,
        bias: this.pick('none', 'qkv', 'all'),
        queryKeyNorm: this.pick('none', 'head', 'all'),
        rotary: this.pick('half-split', 'half-split', 'none'),
        ...this.#maybe({ window: this.pick(1, 5, 9) }),
        ...this.#maybe({ softcap: 3 }),
        ...this.#maybe({ sinks: true as const }),
        ...this.#maybe({ queryGrowth: { factor: 0.3, tokens: 4 } }),
        ...this.#maybe({ outputGate: true as const }),
        ...this.#maybe({ valueNorm: true as const }),
        ...this.#maybe({ headSize: 32, kvHeads: 1 })
      }
    }
  }

  #feedForward(): UnitSpec {
    return this.pick(true, true, false) ? this.#gated() : this.#ungated()
  }

  /** Units without a gate, which go with less. */
  #ungated(): UnitSpec {
    const unit = { activation: this.pick<UnitSpec['activation']>('relu2', 'silu'), ungated: true } as const
    if (this.pick(true, false)) return { kind: 'gated', ...unit, ...this.#maybe({ size: 64 }) }
    return {
      ...{ kind: 'experts', ...unit, size: 32, experts: 6, used: this.pick(1, 2), router: 'sigmoid' },
      ...this.#maybe({ corrected: true as const }),
      ...this.#maybe({ shared: { size: 32 } })
    }
  }

  #gated(): UnitSpec {
    const unit = {
      activation: this.pick<UnitSpec['activation']>('silu', 'gelu', 'gelu-tanh', 'quick-gelu'),
      ...this.#maybe({ limit: 1.5 }),
      ...this.#maybe({ upPlusOne: true as const })
    }
    if (this.pick(true, false)) return { kind: 'gated', ...unit, ...this.#maybe({ size: 64 }) }
    const used = this.pick(1, 2)
    return {
      ...{ kind: 'experts', ...unit, size: 32, experts: 6, used, router: this.pick('softmax', 'sigmoid') },
      ...this.#maybe({ bias: true as const }),
      ...this.#maybe({ corrected: true as const }),
      ...this.#maybe({ normalised: true as const }),
      ...this.#maybe({
        groups: { count: 3, used: this.pick(1, 2), score: this.pick('highest', 'best-two') }
      }),
      ...this.pick(
        {},
        { beside: true as const },
        { shared: { size: 32, ...this.#maybe({ gated: true as const }) } }
      )
    }
  }
}

function expectNear(token: SampledToken, expected: SampledToken, tolerance: number): void {
  for (const { id, logprob } of token.top) {
    const other = expected.top.find(each => each.id === id)
    if (other !== undefined) expect(Math.abs(other.logprob - logprob)).toBeLessThan(tolerance)
  }
  expect(Math.abs(token.top[0]!.logprob - expected.top[0]!.logprob)).toBeLessThan(tolerance)
}

it.each(SEEDS)(
  'features that no family has together compute the same wherever they are cut: %d',
  async seed => {
    const mixture = new Mixture(seed)
    const quantization = mixture.pick(undefined, undefined, {
      bits: 4,
      blockSize: 32,
      shifted: true
    } as const)
    await using model = await randomModel({
      shape: mixture.shape(),
      seed,
      ...(quantization && { quantization })
    })
    const { manifest, blobsDir } = model
    expect(parseManifest(serializeManifest(manifest))).toEqual(manifest)
    const tolerance = quantization === undefined ? TOLERANCE.none : TOLERANCE.rounded
    const tokens = mixture.tokens()
    await using whole = await LocalStages.open(runtime, model)
    const token = await whole.feed(tokens)
    expect(Number.isFinite(token.logprob)).toBe(true)
    await using cut = await LocalStages.open(runtime, model, [2, 4])
    expectNear(await cut.feed(tokens, 7), token, tolerance)
    // Chunks that draw nothing, caches that drop tokens, and another sequence in the step.
    const shard = await runtime.load({ manifest, range: [0, 5], blobsDir, lanes: 2 })
    const batch = await shard.openBatch({ slots: 2, maxTokens: 32, frameTokens: 8 })
    const [one, other] = [await batch.open({ sampling: GREEDY }), await batch.open({ sampling: GREEDY })]
    for (let position = 0; position < TOKENS - 1; position += 8) {
      const input = Int32Array.from(tokens.slice(position, Math.min(position + 8, TOKENS - 1)))
      await one.forward({ position, input, sample: false })
    }
    const step = {
      parts: [
        { position: 0, tokens: 3, draws: 0 },
        { position: TOKENS - 1, tokens: 1, draws: 1 }
      ],
      input: Int32Array.of(5, 6, 7, tokens.at(-1)!)
    }
    const output = await batch.step([other, one], step)
    if (output.kind !== 'drawn') throw new Error('a whole model has drawn nothing')
    expectNear(output.drawn[1]![0]!, token, tolerance)
    await shard.release()
  }
)
