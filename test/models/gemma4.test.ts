import { describe, expect, it } from 'vitest'
import { GgufFile } from '../../models/formats/gguf.ts'
import { parseConfig } from '../../models/import/config.ts'
import { ggufCheckpoint } from '../../models/import/gguf.ts'
import { planOptions } from '../../models/import/import-model.ts'
import { planLayers } from '../../models/import/layer-plan.ts'
import { unwrapConfig } from '../../models/import/wrappers.ts'
import { type Manifest, parseManifest, serializeManifest } from '../../models/manifest.ts'
import { randomManifest } from '../../models/runtime/random-weights.ts'
import { rotaryFrequencies } from '../../models/runtime/rotary.ts'
import { BESIDE, TINY_SHAPE } from '../fixtures/random-model.ts'
import { hasSharedData, sharedData } from '../fixtures/shared-data.ts'

const CONFIG = {
  ...{ model_type: 'gemma4_text', hidden_size: 64, intermediate_size: 96, num_hidden_layers: 6 },
  ...{ num_attention_heads: 4, num_key_value_heads: 2, head_dim: 16, vocab_size: 160, global_head_dim: 32 },
  ...{ num_global_key_value_heads: 1, attention_k_eq_v: true, max_position_embeddings: 128 },
  ...{ hidden_size_per_layer_input: 0, sliding_window: 8, enable_moe_block: true, num_experts: 8 },
  ...{ top_k_experts: 2, moe_intermediate_size: 32, final_logit_softcapping: 30 }
}

describe('a config.json of Gemma 4', () => {
  const parse = (own: object) => parseConfig({ ...CONFIG, ...own }, 'config.json')

  it('means layers of two kinds, with heads and turning of their own', () => {
    const { shape, folds, keysAreValues, tied } = parse({})
    expect(shape).toMatchObject({ heads: 4, kvHeads: 1, headSize: 32, logitSoftcap: 30 })
    expect(shape.rope).toEqual({ theta: 1_000_000, scaling: { type: 'proportional', pairs: 4 } })
    expect(shape.layout).toEqual([0, 0, 0, 0, 0, 1])
    const own = { kind: 'grouped-query', bias: 'none', queryKeyNorm: 'head', rotary: 'half-split' }
    const attention = { ...own, valueNorm: true, scale: 1 }
    expect(shape.blocks.map(block => block.attention)).toEqual([
      { ...attention, kvHeads: 2, headSize: 16, rope: { theta: 10_000 }, window: 8 },
      attention
    ])
    expect(shape.blocks.map(block => block.feedForward)).toEqual(
      Array(2).fill({
        ...{ kind: 'experts', activation: 'gelu-tanh', size: 32, experts: 8, used: 2, router: 'softmax' },
        ...{ normalised: true, beside: true }
      })
    )
    expect(shape.blocks.map(({ norms, outputScale }) => [norms, outputScale])).toEqual(
      Array(2).fill(['around', true])
    )
    expect(folds).toMatchObject({ embedding: 8, router: 1 / 8, norms: 0 })
    expect([4, 5].map(keysAreValues)).toEqual([false, true])
    expect(tied).toBe(true)
  })

  it('has no experts unless it says so, and other heads of keys only where they are values, too', () => {
    const { shape, keysAreValues } = parse({ enable_moe_block: false, attention_k_eq_v: false })
    expect(shape.blocks.map(({ feedForward }) => feedForward.kind)).toEqual(['gated', 'gated'])
    expect(shape).toMatchObject({ kvHeads: 2, headSize: 32 })
    expect(shape.blocks[0]!.attention).not.toHaveProperty('kvHeads')
    expect(keysAreValues(5)).toBe(false)
  })

  it('has a last layer without a window in any case', () => {
    expect(parse({ num_hidden_layers: 4 }).shape.layout).toEqual([0, 0, 0, 1])
    const types = Array(6).fill('sliding_attention')
    expect(parse({ layer_types: types }).shape.layout).toEqual([0, 0, 0, 0, 0, 1])
  })

  it('turns the first pairs of a head by their place among all of them', () => {
    const { shape } = parse({})
    const frequencies = rotaryFrequencies({ rope: shape.rope, rotated: 32 })
    const turned = [0, 1, 2, 3].map(i => 1_000_000 ** (-i / 16))
    expect(frequencies).toEqual([...turned, ...Array(12).fill(0)])
  })

  it.each<[object, RegExp]>([
    [{ hidden_size_per_layer_input: 256 }, /hidden_size_per_layer_input is 256: per-layer embeddings \(Gem/],
    // What transformers has where it is left out.
    [{ hidden_size_per_layer_input: undefined }, /is 256: per-layer embeddings/],
    [{ num_kv_shared_layers: 2 }, /num_kv_shared_layers is 2: keys and values that several layers share/],
    [{ use_bidirectional_attention: 'all' }, /use_bidirectional_attention "all" for gemma4/],
    [{ attention_k_eq_v: 1 }, /attention_k_eq_v is neither true nor false/],
    [{ global_head_dim: 1.5 }, /global_head_dim is 1\.5, not a number of values/],
    [{ global_head_dim: 33 }, /headSize is odd/],
    [{ num_global_key_value_heads: 3 }, /not a multiple/],
    [{ attention_bias: true }, /attention_bias for gemma4/],
    [{ enable_moe_block: 'yes' }, /enable_moe_block/],
    [{ per_layer_config: {} }, /the key "per_layer_config" is not known for gemma4/],
    [
      { rope_parameters: { full_attention: { rope_type: 'proportional', factor: 8 } } },
      /full_attention\.factor is not supported with rope scaling proportional/
    ],
    [
      { rope_parameters: { sliding_attention: { rope_type: 'default', partial_rotary_factor: 0.5 } } },
      /sliding_attention: rope scaling of windows/
    ],
    [{ model_type: 'gemma3_text' }, /the key "global_head_dim" is not known for gemma3/],
    [
      {
        ...{ model_type: 'llama', global_head_dim: null, num_global_key_value_heads: null },
        rope_scaling: { rope_type: 'proportional' }
      },
      /the key|rope scaling "proportional" is not supported for llama/
    ]
  ])('is refused with %j', (own, message) => {
    expect(() => parse(own)).toThrow(message)
  })

  it('is the text part of one for images and sound; E4B is refused there, too', () => {
    const wrapped = (text: object) => ({
      ...{ model_type: 'gemma4', architectures: ['Gemma4ForConditionalGeneration'] },
      ...{ vision_config: {}, audio_config: null, boi_token_id: 5, vision_soft_tokens_per_image: 280 },
      text_config: { ...CONFIG, ...text }
    })
    const read = (text: object) => parseConfig(unwrapConfig(wrapped(text), 'config.json').json, 'config.json')
    expect(read({ use_bidirectional_attention: 'vision' }).shape).toEqual(parse({}).shape)
    expect(() => read({ hidden_size_per_layer_input: 256 })).toThrow(/per-layer embeddings/)
  })
})

describe.skipIf(!hasSharedData)('a GGUF file of Gemma 4', () => {
  async function checkpoint(...entries: [key: string, value: unknown][]) {
    const file = await GgufFile.open(sharedData('arch/gemma4-moe/model.gguf'))
    const metadata = file.metadata as Map<string, unknown>
    for (const [key, value] of entries) metadata.set(`gemma4.${key}`, value)
    const opened = await ggufCheckpoint(file)
    await opened.source.close()
    return opened
  }

  it('has the shape of the folder', async () => {
    const opened = await checkpoint()
    expect(opened.config.shape).toMatchObject({
      ...{ kvHeads: 1, headSize: 64, layout: [0, 0, 0, 1] },
      rope: { theta: 1_000_000, scaling: { type: 'proportional', pairs: 8 } }
    })
    expect(opened.config.shape.blocks[0]!.attention).toMatchObject({ kvHeads: 2, headSize: 32, window: 8 })
    const last = planLayers(planOptions(opened))[4]!.tensors.find(({ tensor }) => tensor.name === 'qkv')!
    expect(last.parts.map(({ name }) => name)).toEqual(
      ['attn_q', 'attn_k', 'attn_k'].map(name => `blk.3.${name}.weight`)
    )
  })

  it.each<[string, unknown, RegExp]>([
    ['embedding_length_per_layer_input', 256, /is 256: per-layer embeddings \(Gemma 4 E2B and E4B\)/],
    ['attention.shared_kv_layers', 2, /is 2: keys and values that several layers share/],
    ['attention.head_count_kv', [2, 1, 2, 1], /head_count_kv differs within a kind of layers/],
    ['attention.head_count_kv', [2, 2], /head_count_kv is not a list of 4 numbers/],
    ['attention.head_count_kv', [2, 2, 2, 0], /head_count_kv is not a list of 4 numbers/],
    ['attention.value_length_swa', 16, /key_length_swa, .* differ/],
    ['rope.dimension_count_swa', 16, /key_length_swa, .* differ/],
    ['router.temperature', 2, /"gemma4\.router\.temperature" is not known/]
  ])('is refused with %s %j', async (key, value, message) => {
    await expect(checkpoint([key, value])).rejects.toThrow(message)
  })
})

describe('a manifest of such layers', () => {
  const random = randomManifest({ ...TINY_SHAPE, ...BESIDE }, { bits: 4, blockSize: 32, shifted: true })
  const manifest = {
    ...random,
    layers: random.layers.map(layer => ({ ...layer, sha256: 'a'.repeat(64) }))
  }
  type Loose = Record<string, unknown>

  it('is read as it was written, with more tensors in a layer than others have', () => {
    expect(parseManifest(serializeManifest(manifest))).toEqual(manifest)
    expect(manifest.layers[1]!.tensors).toHaveLength(31)
  })

  it.each<[string, (m: Manifest, block: Manifest['shape']['blocks'][number]) => void, RegExp]>([
    ['a flag that is false', (_, b) => ((b as Loose).outputScale = false), /outputScale/],
    ['a norm of values of another kind', (_, b) => ((b.attention as Loose).valueNorm = 'all'), /valueNorm/],
    ['a number beside', (_, b) => ((b.feedForward as Loose).beside = 64), /beside/],
    [
      'a shared expert as well',
      (_, b) => ((b.feedForward as Loose).shared = { size: 32 }),
      /a shared expert and a dense unit beside experts are not known together/
    ],
    ['experts that are not beside', (_, b) => delete (b.feedForward as Loose).beside, /tensor router/],
    ['a scale that its file lacks', m => (m.layers[1] = m.layers[3]!), /layer 1: tensor/],
    [
      'more pairs than a head has',
      m => (m.shape.rope.scaling = { type: 'proportional', pairs: 9 }),
      /rope does not fit/
    ],
    ['no pairs', m => (m.shape.rope.scaling = { type: 'proportional', pairs: 0 }), /rope\.scaling\.pairs/],
    [
      'a dense unit beyond any model',
      m => Object.assign(m.shape, { hiddenSize: 2 ** 16, ffnSize: 2 ** 18 }),
      /multiply to more than any model has/
    ],
    [
      'more tensors than any layer has',
      m => m.layers[1]!.tensors.push(...m.layers[1]!.tensors.slice(0, 20)),
      /tensors/
    ]
  ])('is refused with %s', (_, change, message) => {
    const copy = structuredClone(manifest)
    change(copy, copy.shape.blocks[0]!)
    expect(() => parseManifest(serializeManifest(copy))).toThrow(message)
  })
})
