import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseConfig } from '../../models/import/config.ts'
import { importModel } from '../../models/import/import-model.ts'
import { type Manifest, parseManifest, serializeManifest } from '../../models/manifest.ts'
import { weightBytes } from '../../models/runtime/memory.ts'
import { randomManifest } from '../../models/runtime/random-weights.ts'
import { readBytes, readBytesPerToken } from '../../models/runtime/read-bytes.ts'
import { ModelStore } from '../../models/store/store.ts'
import { assumedTimes } from '../../node/source/placement/assumed-times.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { writeGguf } from '../fixtures/gguf.ts'
import { GPT_OSS_CONFIG, SIZES, tinyGptOss } from '../fixtures/gpt-oss.ts'
import { BIASED, TINY_SHAPE } from '../fixtures/random-model.ts'
import { ReferenceWeights } from '../reference/weights.ts'

describe('a manifest with sinks, biases and limits', () => {
  const manifest = (() => {
    const random = randomManifest({ ...TINY_SHAPE, ...BIASED }, { bits: 4, blockSize: 32 })
    return { ...random, layers: random.layers.map(layer => ({ ...layer, sha256: 'a'.repeat(64) })) }
  })()
  const tensorsOf = (of: Manifest, layer: number) => of.layers[layer]!.tensors.map(({ name }) => name)

  it('is read as it was written, with vectors in float32', () => {
    expect(parseManifest(serializeManifest(manifest))).toEqual(manifest)
    expect(tensorsOf(manifest, 1)).toEqual(
      expect.arrayContaining([
        ...['sinks', 'qkv_bias', 'attention_output_bias', 'router_bias'],
        ...['expert_gate_up_bias', 'expert_down_bias']
      ])
    )
    expect(tensorsOf(manifest, 2)).toEqual(expect.arrayContaining(['sinks', 'router_correction']))
    expect(tensorsOf(manifest, 2)).not.toContain('router_bias')
  })

  type Part = Record<string, unknown>
  it.each<[string, (parts: { attention: Part; feedForward: Part }, manifest: Manifest) => void, RegExp]>([
    [
      'biases of another kind',
      ({ attention }) => (attention.bias = 'output'),
      /attention\.bias: "output" is not/
    ],
    ['a flag of sinks that is false', ({ attention }) => (attention.sinks = false), /attention\.sinks/],
    ['sinks as numbers', ({ attention }) => (attention.sinks = [1, 2, 3, 4]), /attention\.sinks/],
    ['no sinks where its file has some', ({ attention }) => delete attention.sinks, /layer 1: tensor/],
    ['no bias where its file has one', ({ attention }) => (attention.bias = 'qkv'), /layer 1: tensor/],
    ['a limit of nothing', ({ feedForward }) => (feedForward.limit = 0), /feedForward\.limit/],
    ['a limit below nothing', ({ feedForward }) => (feedForward.limit = -7), /feedForward\.limit/],
    ['a limit that is no number', ({ feedForward }) => (feedForward.limit = '7'), /feedForward\.limit/],
    [
      'a flag of 1 more that is 2',
      ({ feedForward }) => (feedForward.upPlusOne = 2),
      /feedForward\.upPlusOne/
    ],
    [
      'another activation',
      ({ feedForward }) => (feedForward.activation = 'swiglu'),
      /activation: "swiglu" is/
    ],
    [
      'no biases of experts where its file has them',
      ({ feedForward }) => delete feedForward.bias,
      /layer 1: t/
    ],
    [
      'a correction that its file lacks',
      ({ feedForward }) => (feedForward.corrected = true),
      /layer 1: tensor/
    ],
    [
      'more sinks than heads',
      (_, { layers }) => {
        const sinks = layers[1]!.tensors.find(({ name }) => name === 'sinks')!
        sinks.shape = [5]
        sinks.bytes = 20
      },
      /tensor sinks: float32 \(5\)/
    ],
    [
      'biases of fewer experts',
      (_, { layers }) => {
        const biases = layers[1]!.tensors.find(({ name }) => name === 'expert_down_bias')!
        biases.shape = [4 * 64]
        biases.bytes = 4 * 64 * 4
      },
      /tensor expert_down_bias: float32 \(256\)/
    ]
  ])('is refused with %s', (_, change, message) => {
    const copy = structuredClone(manifest)
    change(copy.shape.blocks[0]! as unknown as { attention: Part; feedForward: Part }, copy)
    expect(() => parseManifest(serializeManifest(copy))).toThrow(message)
  })

  it('counts biases of experts among what a token reads a share of', () => {
    const { bytes, tensors } = manifest.layers[1]!
    const ofExperts = tensors.filter(({ name }) => name.startsWith('expert_'))
    expect(ofExperts.map(({ name }) => name)).toContain('expert_down_bias')
    const sum = ofExperts.reduce((n, tensor) => n + tensor.bytes, 0)
    expect(readBytes(manifest, 1)).toBeCloseTo(bytes - sum * (3 / 5))
  })
})

describe('a config.json of gpt-oss', () => {
  const parse = (own: object) => parseConfig({ ...GPT_OSS_CONFIG, ...own }, 'config.json')

  it('means windows by turns, sinks, biases, units within a limit, and YaRN that is not rounded', () => {
    const { shape, notices } = parse({})
    const attention = {
      ...{ kind: 'grouped-query', bias: 'all', queryKeyNorm: 'none', rotary: 'half-split', sinks: true }
    }
    const feedForward = {
      ...{ kind: 'experts', activation: 'quick-gelu', limit: 7, upPlusOne: true },
      ...{ experts: 3, used: 2, router: 'softmax', bias: true, normalised: true }
    }
    expect(shape.blocks).toEqual([
      { attention: { ...attention, window: 16 }, feedForward, norms: 'before' },
      { attention, feedForward, norms: 'before' }
    ])
    expect(shape.layout).toEqual([0, 1])
    expect(shape.rope).toEqual({
      theta: 150_000,
      scaling: {
        ...{ type: 'yarn', factor: 32, betaFast: 32, betaSlow: 1, originalContextLength: 128 },
        ...{ magnitude: 0.1 * Math.log(32) + 1, unrounded: true }
      }
    })
    expect(notices).toEqual([])
    // Left out, windows are on every other layer, the first of them.
    expect(parse({ layer_types: null }).shape.blocks).toEqual(shape.blocks)
  })

  it.each([
    [{ swiglu_limit: 5 }, /swiglu_limit 5 for gpt_oss is not supported/],
    [{ attention_bias: false }, /attention_bias false for gpt_oss is not supported/],
    [{ hidden_act: 'gelu' }, /activation "gelu" \(only silu for gpt_oss\)/],
    [{ experts_per_token: 3 }, /num_experts_per_tok is 2, but experts_per_token is 3/],
    [{ rope_scaling: null }, /rope_scaling is missing, or null: programs differ/],
    [{ rope_scaling: undefined }, /rope_scaling is missing, or null: programs differ/],
    [{ swiglu_alpha: 1 }, /the key "swiglu_alpha" is not known for gpt_oss/],
    [{ mlp_bias: true }, /mlp_bias/],
    [{ layer_types: ['sliding_attention'] }, /layer_types has 1 entries, but there are 2 layers/],
    [{ quantization_config: { quant_method: 'mxfp4', block: 16 } }, /the key "block" is not supported/]
  ])('is refused with %j', (own, message) => {
    expect(() => parse(own)).toThrow(message)
  })
})

describe('gpt-oss 20B', () => {
  const { shape } = parseConfig(
    {
      ...GPT_OSS_CONFIG,
      ...{
        hidden_size: 2880,
        intermediate_size: 2880,
        num_hidden_layers: 24,
        layer_types: null,
        head_dim: 64
      },
      ...{ num_attention_heads: 64, num_key_value_heads: 8, num_local_experts: 32, num_experts_per_tok: 4 },
      ...{ experts_per_token: 4, sliding_window: 128, max_position_embeddings: 131_072, vocab_size: 201_088 },
      rope_scaling: { ...GPT_OSS_CONFIG.rope_scaling, original_max_position_embeddings: 4096 }
    },
    'config.json'
  )
  const gigabytes = (bytes: number) => bytes / 1e9
  const manifest = (bits: 4 | 8, blockSize: number) => randomManifest(shape, { bits, blockSize })

  it('takes as much as its weights do in each form, and a token reads what it is sent to', () => {
    // 20.9 billion weights; blocks of 64 are the largest that divide 2,880.
    const small = manifest(4, 64)
    expect(gigabytes(weightBytes(small))).toBeCloseTo(11.8, 0)
    expect(gigabytes(weightBytes(manifest(8, 32)))).toBeCloseTo(23.5, 0)
    expect(gigabytes(readBytesPerToken(small))).toBeCloseTo(2.0, 0)
    // Windows by turns: as many layers of each kind, each with a time of its own.
    expect(shape.layout).toEqual([0, 1])
    expect(Object.keys(assumedTimes(small))).toEqual(expect.arrayContaining(['decoder', 'decoder-1']))
  })
})

describe('gpt-oss in each form in which it is published', () => {
  const { gateUp, down, gateUpBias, write, gguf } = tinyGptOss()
  type Form = 'mxfp4' | 'floats' | 'gguf'

  async function imported(
    form: Form,
    use: (model: Manifest, files: Uint8Array[], notices: string[]) => void
  ) {
    await using folder = await temporaryFolder()
    const path = join(folder.path, form)
    if (form === 'gguf') await writeGguf(path, gguf())
    else await write(path, form)
    const store = await ModelStore.open(join(folder.path, 'store'))
    const notices: string[] = []
    const { manifest } = await importModel(path, store, {
      name: 'x',
      checkTokenizer: false,
      onNotice: notice => void notices.push(notice)
    })
    const files = await Promise.all(
      manifest.layers.map(async ({ sha256 }) => Uint8Array.from(await readFile(store.blobPath(sha256))))
    )
    use(manifest, files, notices)
  }

  it.each<[Form, object]>([
    ['mxfp4', { quantization: { bits: 8, blockSize: 32 } }],
    ['gguf', { quantization: { bits: 8, blockSize: 32 } }],
    ['floats', {}]
  ])('%s has the same values, all of them kept', async (form, packing) => {
    await imported(form, (manifest, files) => {
      const weights = new ReferenceWeights(manifest, files)
      for (const layer of [0, 1]) {
        // Blocks have one zero only.
        const get = (name: string, columns: number) =>
          [...weights.get(layer + 1, name, columns)!.data].map(value => value + 0)
        expect(get('expert_gate_up', SIZES.hidden)).toEqual(gateUp(layer))
        expect(get('expert_down', SIZES.ffn)).toEqual(down(layer))
        expect(get('expert_gate_up_bias', 1)).toEqual(gateUpBias(layer))
      }
      const name = form === 'floats' ? 'expert_down' : 'expert_down.weight'
      expect(manifest.layers[1]!.tensors.find(tensor => tensor.name === name)).toMatchObject(packing)
      expect(manifest.shape.rope.scaling).toMatchObject({ unrounded: true, factor: 32 })
    })
  })

  it.each<Form>(['mxfp4', 'gguf'])(
    'of %s an import says what it takes with its own values, and what 4 bits cost and take',
    async form => {
      await imported(form, (manifest, _, notices) => {
        const stored = (weightBytes(manifest) / 1e6).toFixed(2)
        expect(notices.join('\n')).toMatch(
          new RegExp(
            `with its own values the model takes ${stored} MB in the store, [\\d.]+ times .* ` +
              '--quantize q4 --block 32 [\\d.]+ MB at a relative error of [\\d.]+ %'
          )
        )
      })
    }
  )

  it('a GGUF file ends replies with what ends them, and not with what ends each message', async () => {
    await using folder = await temporaryFolder()
    const path = join(folder.path, 'gguf')
    const store = await ModelStore.open(join(folder.path, 'store'))
    const endsOf = async (...marks: string[]) => {
      const { metadata, tensors } = gguf()
      const put = <T>(key: string, values: T[]) => {
        const all = metadata[`tokenizer.ggml.${key}`] as T[]
        metadata[`tokenizer.ggml.${key}`] = [...all.slice(0, 3), ...values, ...all.slice(3 + values.length)]
      }
      put('tokens', marks)
      put(
        'token_type',
        marks.map(() => 3)
      )
      await writeGguf(path, { metadata, tensors })
      return (await importModel(path, store, { name: 'x', checkTokenizer: false })).manifest.eosTokenIds
    }
    expect(await endsOf('<|end|>', '<|return|>', '<|call|>')).toEqual([2, 4, 5])
    expect(await endsOf('<|end|>', '<|other|>')).toEqual([2, 3])
  })
})
