import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { UnitSpec } from '../../models/block-schema.ts'
import { layerSizes } from '../../models/blocks.ts'
import { LLAMA_BLOCK } from '../../models/import/architectures/architecture.ts'
import type { Block, ModelShape } from '../../models/manifest.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import { randomModel } from '../fixtures/random-model.ts'
import { LocalStages } from '../fixtures/shards.ts'
import { ReferenceWeights } from '../reference/weights.ts'

/** Float32 against float64. */
const TOLERANCE = 2e-4

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

/** A first token attends to itself alone, so a layer is its norms, v, and its feed-forward part. */
describe('a layer of one token, beside float64', () => {
  const activations: UnitSpec['activation'][] = ['silu', 'gelu', 'gelu-tanh']
  const norms: Block['norms'][] = ['before', 'after', 'around']
  const kinds: ModelShape['normKind'][] = ['rms', 'layer']
  const cases = [
    ...activations.map(activation => ({ activation, norms: 'before' as const, normKind: 'rms' as const })),
    ...norms.flatMap(place =>
      kinds.map(normKind => ({ activation: 'silu' as const, norms: place, normKind }))
    )
  ]
  it.each(cases)('$activation, $normKind norms $norms', async ({ activation, norms: place, normKind }) => {
    const block: Block = { ...LLAMA_BLOCK, feedForward: { kind: 'gated', activation }, norms: place }
    await compare({ normKind, blocks: [block] })
  })

  it('layers with sizes of their own', async () => {
    const small: Block = {
      ...LLAMA_BLOCK,
      attention: { ...LLAMA_BLOCK.attention, heads: 3, kvHeads: 1, headSize: 32 },
      feedForward: { kind: 'gated', activation: 'silu', size: 40 }
    }
    const blocks = [LLAMA_BLOCK, small]
    await compare({ blocks, layout: [0, 1] })
    await compare({ blocks: blocks.toReversed(), layout: [0, 1] })
  })

  it('logits within a cap', async () => {
    await compare({ logitSoftcap: 1.5 })
  })

  async function compare(shape: Partial<ModelShape>): Promise<void> {
    await using model = await randomModel({ shape })
    const weights = new ReferenceWeights(model.manifest, model.files)
    for (const cuts of [[], [2, 4]]) {
      await using stages = await LocalStages.open(runtime, model, cuts)
      const { top } = await stages.feed([7])
      const expected = oneToken(weights, 7)
      for (const { id, logprob } of top) expect(Math.abs(logprob - expected[id]!)).toBeLessThan(TOLERANCE)
    }
  }
})

/** Log-probabilities of the token behind a text of one token. */
function oneToken(weights: ReferenceWeights, token: number): number[] {
  const { hiddenSize: H, decoderLayers, normKind, normEpsilon, blocks, logitSoftcap } = weights.manifest.shape
  const { norms, feedForward } = blocks[0]!
  const get = (layer: number, name: string, columns: number) => [...weights.get(layer, name, columns)!.data]
  const mean = (x: number[]) => x.reduce((a, b) => a + b, 0) / x.length
  const norm = (x: number[], layer: number, name: string): number[] => {
    const weight = get(layer, name, H)
    const centred = normKind === 'layer' ? x.map(v => v - mean(x)) : x
    const scale = 1 / Math.sqrt(mean(centred.map(v => v * v)) + normEpsilon)
    return centred.map((v, i) => v * scale * weight[i]!)
  }
  const times = (layer: number, name: string, x: number[]): number[] => {
    const data = get(layer, name, x.length)
    return Array.from({ length: data.length / x.length }, (_, row) =>
      x.reduce((sum, v, i) => sum + v * data[row * x.length + i]!, 0)
    )
  }
  const add = (a: number[], b: number[]) => a.map((v, i) => v + b[i]!)
  const normIn = (x: number[], layer: number, name: string) => (norms === 'after' ? x : norm(x, layer, name))
  const normOut = (x: number[], layer: number, name: string) =>
    norms === 'before' ? x : norm(x, layer, name)
  let x = get(0, 'embedding', H).slice(token * H, (token + 1) * H)
  for (let layer = 1; layer <= decoderLayers; layer++) {
    const { heads, kvHeads, headSize: D, ffnSize: F } = layerSizes(weights.manifest.shape, layer)
    const qkv = times(layer, 'qkv', normIn(x, layer, 'attention_norm'))
    const values = qkv.slice((heads + kvHeads) * D)
    const attended = Array.from({ length: heads }, (_, head) => {
      const group = Math.floor(head / (heads / kvHeads))
      return values.slice(group * D, (group + 1) * D)
    }).flat()
    x = add(x, normOut(times(layer, 'attention_output', attended), layer, 'attention_post_norm'))
    const both = times(layer, 'gate_up', normIn(x, layer, 'ffn_norm'))
    const gated = both.slice(0, F).map((gate, i) => activate(feedForward, gate) * both[F + i]!)
    x = add(x, normOut(times(layer, 'ffn_down', gated), layer, 'ffn_post_norm'))
  }
  const cap = logitSoftcap ?? Number.POSITIVE_INFINITY
  const logits = times(decoderLayers + 1, 'output', norm(x, decoderLayers + 1, 'norm')).map(v =>
    Number.isFinite(cap) ? cap * Math.tanh(v / cap) : v
  )
  const best = Math.max(...logits)
  const sum = best + Math.log(logits.reduce((total, v) => total + Math.exp(v - best), 0))
  return logits.map(v => v - sum)
}

function activate(feedForward: Block['feedForward'], x: number): number {
  const activation = feedForward.kind === 'none' ? 'none' : feedForward.activation
  if (activation === 'silu') return x / (1 + Math.exp(-x))
  if (activation === 'gelu') return x * normalDistribution(x)
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))
}

/** The normal distribution at x, by Taylor's series: x is of ordinary size here. */
function normalDistribution(x: number): number {
  let sum = x
  let value = x
  for (let i = 3; Math.abs(value) > 1e-17 * Math.abs(sum); i += 2) sum += value = (value * x * x) / i
  return 0.5 + (sum * Math.exp(-0.5 * x * x)) / Math.sqrt(2 * Math.PI)
}
