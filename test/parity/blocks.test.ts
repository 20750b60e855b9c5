import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Architecture, LLAMA_BLOCK } from '../../models/import/architectures/architecture.ts'
import type { Block, ModelShape } from '../../models/manifest.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import { importedModel } from '../fixtures/prepared.ts'
import { randomModel } from '../fixtures/random-model.ts'
import { LocalStages } from '../fixtures/shards.ts'
import { hasSharedData, sharedData } from '../fixtures/shared-data.ts'
import { ReferenceWeights } from '../reference/weights.ts'

/** Float32 against float64. */
const TOLERANCE = 2e-4
/** llama.cpp prints six decimals and adds in another order. */
const GOLDEN_TOLERANCE = 1e-3

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

/** A first token attends to itself alone, so a layer is its norms, v, and its feed-forward part. */
describe('a layer of one token, beside float64', () => {
  const activations: Block['feedForward']['activation'][] = ['silu', 'gelu', 'gelu-tanh']
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
    await using model = await randomModel({ shape: { normKind, blocks: [block] } })
    const weights = new ReferenceWeights(model.manifest, model.files)
    for (const cuts of [[], [2, 4]]) {
      await using stages = await LocalStages.open(runtime, model, cuts)
      const { top } = await stages.feed([7])
      const expected = oneToken(weights, 7)
      for (const { id, logprob } of top) expect(Math.abs(logprob - expected[id]!)).toBeLessThan(TOLERANCE)
    }
  })
})

/** Log-probabilities of the token behind a text of one token. */
function oneToken(weights: ReferenceWeights, token: number): number[] {
  const { hiddenSize: H, ffnSize: F, heads, kvHeads, headSize: D, decoderLayers } = weights.manifest.shape
  const { normKind, normEpsilon, blocks } = weights.manifest.shape
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
    const qkv = times(layer, 'qkv', normIn(x, layer, 'attention_norm'))
    const values = qkv.slice((heads + kvHeads) * D)
    const attended = Array.from({ length: heads }, (_, head) => {
      const group = Math.floor(head / (heads / kvHeads))
      return values.slice(group * D, (group + 1) * D)
    }).flat()
    x = add(x, normOut(times(layer, 'attention_output', attended), layer, 'attention_post_norm'))
    const both = times(layer, 'gate_up', normIn(x, layer, 'ffn_norm'))
    const gated = both.slice(0, F).map((gate, i) => activate(feedForward.activation, gate) * both[F + i]!)
    x = add(x, normOut(times(layer, 'ffn_down', gated), layer, 'ffn_post_norm'))
  }
  const logits = times(decoderLayers + 1, 'output', norm(x, decoderLayers + 1, 'norm'))
  const best = Math.max(...logits)
  const sum = best + Math.log(logits.reduce((total, v) => total + Math.exp(v - best), 0))
  return logits.map(v => v - sum)
}

function activate(activation: Block['feedForward']['activation'], x: number): number {
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

const attention = LLAMA_BLOCK.attention
/** Norms behind attention and feed-forward part, and over all heads of q and k together. */
const OLMO_2: Architecture = {
  name: 'olmo2',
  models: 'OLMo 2',
  className: 'Olmo2ForCausalLM',
  normKind: 'rms',
  pattern: [{ ...LLAMA_BLOCK, attention: { ...attention, queryKeyNorm: 'all' }, norms: 'after' }],
  defaults: { ropeTheta: 10_000, normEpsilon: 1e-5, tied: false },
  tokenizerClass: 'GPT2Tokenizer',
  ignores: [],
  interleaved: { huggingFace: false, gguf: false },
  names: {
    huggingFace: { ffn_post_norm: ['model.layers.#.post_feedforward_layernorm.weight'] }
  }
}
/** Every fourth layer without positions. */
const SMOLLM_3: Architecture = {
  name: 'smollm3',
  models: 'SmolLM3',
  className: 'SmolLM3ForCausalLM',
  normKind: 'rms',
  pattern: [
    LLAMA_BLOCK,
    LLAMA_BLOCK,
    LLAMA_BLOCK,
    { ...LLAMA_BLOCK, attention: { ...attention, rotary: 'none' } }
  ],
  defaults: { ropeTheta: 2_000_000, normEpsilon: 1e-6, tied: true },
  tokenizerClass: 'PreTrainedTokenizerFast',
  ignores: ['no_rope_layers', 'no_rope_layer_interval'],
  interleaved: { huggingFace: false, gguf: true }
}

describe.skipIf(!hasSharedData)('architectures that are data alone, beside llama.cpp', () => {
  const cases = [
    ['olmo2-postnorm', OLMO_2],
    ['smollm3-nope', SMOLLM_3]
  ] as const
  const files = ['hf', 'model.gguf']
  it.each(cases.flatMap(([name, architecture]) => files.map(file => ({ name, file, architecture }))))(
    '$name/$file gives the same tokens and log-probabilities, whole and cut',
    async ({ name, file, architecture }) => {
      await using imported = await importedModel(`arch/${name}/${file}`, { architectures: [architecture] })
      const { store, model } = imported
      const { manifest } = model
      const golden: {
        prompt_tokens: number[]
        tokens: number[]
        top: [id: number, logprob: number][][]
      } = JSON.parse(await readFile(sharedData(`arch/${name}/reference.json`), 'utf8'))
      for (const cuts of [[], [1, 2, 3, 4, 5]]) {
        await using stages = await LocalStages.open(runtime, { manifest, blobsDir: store.blobsDir }, cuts)
        const drawn = await stages.generate(golden.prompt_tokens, golden.tokens.length)
        expect(drawn.map(token => token.id)).toEqual(golden.tokens)
        for (const [i, token] of drawn.entries()) {
          const [id, logprob] = golden.top[i]![0]!
          expect(token.id, `token ${i}`).toBe(id)
          expect(Math.abs(token.logprob - logprob), `token ${i}`).toBeLessThan(GOLDEN_TOLERANCE)
        }
      }
    }
  )
})
