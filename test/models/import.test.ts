import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parseConfig } from '../../models/import/config.ts'
import { importModel } from '../../models/import/import-model.ts'
import type { LayerFile } from '../../models/manifest.ts'
import { ModelStore } from '../../models/store/store.ts'
import {
  type TestTensor,
  TINY_CONFIG,
  tinyTokenizer,
  valuesOf,
  writeCheckpoint
} from '../fixtures/checkpoint.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { tinyGguf, writeGguf } from '../fixtures/gguf.ts'
import { hasSharedData, sharedData } from '../fixtures/shared-data.ts'

let folder: Awaited<ReturnType<typeof temporaryFolder>>
let dir: string
let store: ModelStore

beforeEach(async () => {
  folder = await temporaryFolder()
  dir = join(folder.path, 'checkpoint')
  store = await ModelStore.open(join(folder.path, 'store'))
})
afterEach(() => folder[Symbol.asyncDispose]())

async function tensorOf(layer: LayerFile, name: string): Promise<number[]> {
  const entry = layer.tensors.find(t => t.name === name)!
  const bytes = await readFile(store.blobPath(layer.sha256))
  return [
    ...new Float32Array(Uint8Array.from(bytes.subarray(entry.offset, entry.offset + entry.bytes)).buffer)
  ]
}

const concat = (tensors: Map<string, TestTensor>, ...names: string[]) =>
  names.flatMap(name => valuesOf(tensors.get(name)!))

describe('a Hugging Face folder', () => {
  it.each(['F32', 'F16', 'BF16'] as const)(
    'keeps the values of %s, fused in the order of rows',
    async dtype => {
      const tensors = await writeCheckpoint(dir, { dtype })
      const { manifest } = await importModel(dir, store, { name: 'tiny' })
      const layer = manifest.layers[2]!
      const hf = 'model.layers.1.'
      expect(await tensorOf(layer, 'qkv')).toEqual(
        concat(tensors, ...['q', 'k', 'v'].map(p => `${hf}self_attn.${p}_proj.weight`))
      )
      expect(await tensorOf(layer, 'gate_up')).toEqual(
        concat(tensors, `${hf}mlp.gate_proj.weight`, `${hf}mlp.up_proj.weight`)
      )
      expect(await tensorOf(layer, 'ffn_down')).toEqual(concat(tensors, `${hf}mlp.down_proj.weight`))
      expect(await tensorOf(layer, 'ffn_norm')).toEqual(
        concat(tensors, `${hf}post_attention_layernorm.weight`)
      )
      expect(await tensorOf(manifest.layers[0]!, 'embedding')).toEqual(
        concat(tensors, 'model.embed_tokens.weight')
      )
      expect(await tensorOf(manifest.layers[3]!, 'output')).toEqual(concat(tensors, 'lm_head.weight'))
      expect(manifest).toMatchObject({ precision: 'float32', bosTokenId: 1, eosTokenIds: [2, 3] })
      expect(Object.keys(manifest.files).sort()).toEqual([
        'generation_config.json',
        'tokenizer.json',
        'tokenizer_config.json'
      ])
    }
  )

  it('gives the same model from several files as from one', async () => {
    await writeCheckpoint(dir)
    const one = await importModel(dir, store, { name: 'one' })
    const parts = join(folder.path, 'parts')
    await writeCheckpoint(parts, { files: 3 })
    expect((await importModel(parts, store, { name: 'parts' })).id).toBe(one.id)
  })

  it('uses the embedding table as the head of a tied model', async () => {
    const tensors = await writeCheckpoint(dir, { config: { tie_word_embeddings: true } })
    const { manifest } = await importModel(dir, store, { name: 'tied' })
    expect(await tensorOf(manifest.layers[3]!, 'output')).toEqual(
      concat(tensors, 'model.embed_tokens.weight')
    )
  })

  it.each([
    ['qwen2', { bias: true }, ['qkv_bias']],
    ['qwen3', { norms: true }, ['q_norm', 'k_norm']],
    ['mistral', {}, []]
  ] as const)('brings what %s has beyond Llama', async (model_type, options, names) => {
    const tensors = await writeCheckpoint(dir, { ...options, config: { model_type, head_dim: 16 } })
    const { manifest } = await importModel(dir, store, { name: 'tiny' })
    expect(manifest.shape).toMatchObject({ architecture: model_type, headSize: 16 })
    const layer = manifest.layers[1]!
    const optional = ['qkv_bias', 'q_norm', 'k_norm'].filter(n => layer.tensors.some(t => t.name === n))
    expect(optional).toEqual(names)
    if (model_type === 'qwen2') {
      const biases = ['q', 'k', 'v'].map(p => `model.layers.0.self_attn.${p}_proj.bias`)
      expect(await tensorOf(layer, 'qkv_bias')).toEqual(concat(tensors, ...biases))
    }
  })

  it.each(['q8', 'q4'] as const)('rounds projections to %s and keeps norms', async quantize => {
    const tensors = await writeCheckpoint(dir)
    const { manifest } = await importModel(dir, store, { name: 'tiny', quantize })
    expect(manifest.precision).toBe(quantize)
    const names = manifest.layers[1]!.tensors.map(t => t.name)
    expect(names).toContain('qkv.weight')
    expect(names).toContain('qkv.scales')
    expect(await tensorOf(manifest.layers[1]!, 'attention_norm')).toEqual(
      concat(tensors, 'model.layers.0.input_layernorm.weight')
    )
    expect(manifest.layers[0]!.tensors.map(t => t.name)).toEqual(['embedding.weight', 'embedding.scales'])
  })

  const broken: [string, RegExp, (dir: string) => Promise<unknown>][] = [
    ['no config.json', /config\.json: is missing/, d => rm(join(d, 'config.json'))],
    ['no tokenizer', /has no tokenizer\.json/, d => rm(join(d, 'tokenizer.json'))],
    ['no weights', /has no model\.safetensors/, d => rm(join(d, 'model.safetensors'))],
    ['a config that is no JSON', /config\.json: is not JSON/, d => writeFile(join(d, 'config.json'), '{')],
    [
      'another architecture',
      /"gpt2" is not supported; supported are llama, mistral, qwen2, qwen3/,
      d => patchJson(join(d, 'config.json'), c => ({ ...c, model_type: 'gpt2' }))
    ],
    [
      'weights of another size than the config',
      /q_proj\.weight has shape \(32, 32\), the configuration asks for \(64, 32\)/,
      d => patchJson(join(d, 'config.json'), c => ({ ...c, head_dim: 16 }))
    ],
    [
      'more layers than the weights have',
      /tensor model\.layers\.2\.input_layernorm\.weight is missing/,
      d => patchJson(join(d, 'config.json'), c => ({ ...c, num_hidden_layers: 3 }))
    ],
    [
      'fewer layers than the weights have',
      /"model\.layers\.1\.input_layernorm\.weight" is not part of architecture llama with 1 layers/,
      d => patchJson(join(d, 'config.json'), c => ({ ...c, num_hidden_layers: 1 }))
    ],
    [
      'a tokenizer that cannot be loaded',
      /its tokenizer cannot be used: tokenizer\.json has no "decoder"/,
      d => writeFile(join(d, 'tokenizer.json'), JSON.stringify({ ...tinyTokenizer(24), decoder: null }))
    ],
    [
      'a tokenizer of another model',
      /token "t45" has id 48, but the model's vocabulary has 48/,
      d => writeFile(join(d, 'tokenizer.json'), JSON.stringify(tinyTokenizer(49)))
    ],
    [
      'weights cut short',
      /lm_head\.weight|outside the file/,
      async d => {
        const path = join(d, 'model.safetensors')
        await writeFile(path, (await readFile(path)).subarray(0, -1))
      }
    ],
    [
      'a weight that is not a number',
      /lm_head\.weight holds values that are infinite or not numbers/,
      async d => {
        const path = join(d, 'model.safetensors')
        const bytes = await readFile(path)
        bytes.writeFloatLE(Number.NaN, bytes.length - 4)
        await writeFile(path, bytes)
      }
    ]
  ]
  it.each(broken)('refuses %s and leaves the store as it was', async (_, message, damage) => {
    await writeCheckpoint(dir)
    await damage(dir)
    await expect(importModel(dir, store, { name: 'tiny' })).rejects.toThrow(message)
    expect(await store.list()).toEqual([])
    expect((await ModelStore.open(store.dir)).blobsDir && (await store.scan()).broken).toEqual([])
  })
})

describe('several threads', () => {
  it('write the same model as one', async () => {
    await writeCheckpoint(dir, { config: { num_hidden_layers: 5 } })
    const gguf = join(folder.path, 'm.gguf')
    await writeGguf(gguf, tinyGguf({ other: 'Q4_0', attn_v: 'Q8_0' }))
    for (const [path, quantize] of [
      [dir, 'none'],
      [dir, 'q4'],
      [gguf, 'none'],
      [gguf, 'q8']
    ] as const) {
      const one = await importModel(path, store, { name: 'one', quantize, threads: 1 })
      const progress: number[] = []
      const onProgress = (done: number) => progress.push(done)
      const many = await importModel(path, store, { name: 'many', quantize, threads: 3, onProgress })
      expect(many.id).toBe(one.id)
      expect(progress).toEqual(one.manifest.layers.map((_, i) => i + 1))
    }
  })

  it('end with the error of the first that fails, and leave nothing', async () => {
    await writeCheckpoint(dir)
    const path = join(dir, 'model.safetensors')
    const bytes = await readFile(path)
    bytes.writeFloatLE(Number.NaN, bytes.length - 4)
    await writeFile(path, bytes)
    const failed = importModel(dir, store, { name: 'tiny', threads: 2 })
    await expect(failed).rejects.toMatchObject({
      name: 'CheckpointError',
      message: expect.stringMatching(/^\/.*checkpoint: tensor lm_head/),
      file: dir
    })
    const cancel = new AbortController()
    const onProgress = () => cancel.abort()
    const cancelled = importModel(dir, store, { name: 'tiny', threads: 2, onProgress, signal: cancel.signal })
    await expect(cancelled).rejects.toThrow(/abort|lm_head/)
    expect(await store.list()).toEqual([])
    expect(await readdir(join(store.dir, 'tmp'))).toEqual([])
  })
})

describe('config.json', () => {
  const parse = (patch: Record<string, unknown>) => parseConfig({ ...TINY_CONFIG, ...patch }, 'config.json')

  it.each([
    [{ architectures: ['LlamaForSequenceClassification'] }, /only LlamaForCausalLM for llama/],
    [{ hidden_act: 'gelu' }, /activation "gelu"/],
    [{ rope_scaling: { type: 'yarn', factor: 4 } }, /rope scaling "yarn" is not supported/],
    [{ attention_bias: true }, /attention_bias/],
    [{ mlp_bias: true }, /mlp_bias/],
    [{ quantization_config: { quant_method: 'gptq' } }, /already quantised/],
    [{ num_key_value_heads: 3 }, /not a multiple/],
    [{ num_hidden_layers: 100_000 }, /decoderLayers/],
    [{ hidden_size: -1 }, /hidden_size/],
    [{ hidden_size: '32' }, /hidden_size/],
    [{ head_dim: 7 }, /odd/],
    [{ rope_scaling: { rope_type: 'llama3', factor: 8 } }, /lacks a factor/]
  ])('refuses %j', (patch, message) => {
    expect(() => parse(patch)).toThrow(message)
  })

  it('takes defaults, both places of theta and both names of the scaling', () => {
    const { num_key_value_heads: _, rope_theta: __, ...rest } = TINY_CONFIG
    expect(parseConfig(rest, 'c').shape).toMatchObject({ kvHeads: 4, headSize: 8, rope: { theta: 10_000 } })
    const scaling = {
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192
    }
    const expected = {
      theta: 500_000,
      scaling: { type: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalContextLength: 8192 }
    }
    expect(
      parse({ rope_theta: 500_000, rope_scaling: { ...scaling, rope_type: 'llama3' } }).shape.rope
    ).toEqual(expected)
    expect(parse({ rope_theta: 500_000, rope_scaling: { ...scaling, type: 'llama3' } }).shape.rope).toEqual(
      expected
    )
    expect(
      parse({ rope_parameters: { ...scaling, rope_type: 'llama3', rope_theta: 500_000 } }).shape.rope
    ).toEqual(expected)
  })

  it('ends the context where a sliding window would begin to hide tokens', () => {
    expect(parse({ model_type: 'mistral', sliding_window: 32 }).shape.contextLength).toBe(32)
    expect(parse({ model_type: 'mistral', sliding_window: null }).shape.contextLength).toBe(64)
    expect(parse({ model_type: 'qwen2', sliding_window: 32 }).shape.contextLength).toBe(64)
  })

  it.skipIf(!hasSharedData).each([
    ['Llama-2-7b-hf', { decoderLayers: 32, headSize: 128, kvHeads: 32 }],
    ['Llama-2-70b-chat-hf', { decoderLayers: 80, headSize: 128, kvHeads: 8 }],
    ['Llama-3.2-1B', { decoderLayers: 16, headSize: 64, rope: { theta: 500_000, scaling: { factor: 32 } } }],
    ['Mistral-7B-Instruct-v0.1', { contextLength: 4096, kvHeads: 8 }],
    ['Qwen2.5-0.5B', { contextLength: 32_768, headSize: 64, vocabSize: 151_936 }]
  ])('reads that of %s', async (name, shape) => {
    const json = JSON.parse(await readFile(sharedData(`configs/${name}.json`), 'utf8'))
    expect(parseConfig(json, name).shape).toMatchObject(shape)
  })
})

async function patchJson(path: string, patch: (json: Record<string, unknown>) => unknown): Promise<void> {
  await writeFile(path, JSON.stringify(patch(JSON.parse(await readFile(path, 'utf8')))))
}
