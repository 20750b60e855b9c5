import { utimesSync } from 'node:fs'
import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { expandBlocks } from '../../models/blocks.ts'
import { parseConfig } from '../../models/import/config.ts'
import { importModel } from '../../models/import/import-model.ts'
import type { LayerFile } from '../../models/manifest.ts'
import { ModelStore } from '../../models/store/store.ts'
import {
  encodeSafetensors,
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

describe('folders as people have them', () => {
  const head = 'lm_head.weight'
  const embedding = 'model.embed_tokens.weight'
  const part = (n: number) => join(dir, `model-0000${n}-of-00002.safetensors`)
  const weights = () => join(dir, 'model.safetensors')
  const index = () => join(dir, 'model.safetensors.index.json')

  /** The same weights as one whole file gives. */
  async function expectSameAs(id: string): Promise<void> {
    expect((await importModel(dir, store, { name: 'again' })).id).toBe(id)
  }

  it('keep a tied table under the head alone', async () => {
    const tensors = await writeCheckpoint(dir, { config: { tie_word_embeddings: true } })
    const { id } = await importModel(dir, store, { name: 'tied' })
    tensors.set(head, tensors.get(embedding)!)
    await writeFile(weights(), encodeSafetensors(tensors))
    await expectSameAs(id)
    tensors.delete(embedding)
    await writeFile(weights(), encodeSafetensors(tensors))
    await expectSameAs(id)
  })

  it('call a head tied that is another: the head counts, and it is said', async () => {
    const tensors = await writeCheckpoint(dir, { config: { tie_word_embeddings: false } })
    const path = join(dir, 'config.json')
    await patchJson(path, config => ({ ...config, tie_word_embeddings: true }))
    const notices: string[] = []
    const { manifest } = await importModel(dir, store, {
      name: 'x',
      onNotice: notice => notices.push(notice)
    })
    expect(await tensorOf(manifest.layers.at(-1)!, 'output')).toEqual(concat(tensors, head))
    expect(await tensorOf(manifest.layers[0]!, 'embedding')).toEqual(concat(tensors, embedding))
    expect(notices).toEqual([
      expect.stringMatching(/tie_word_embeddings is true, but lm_head\.weight is not/)
    ])
  })

  it('have parts without an index, a whole file beside a stale one, a tensor twice that the index has once', async () => {
    const tensors = await writeCheckpoint(dir)
    const { id } = await importModel(dir, store, { name: 'whole' })
    await writeFile(index(), JSON.stringify({ weight_map: { [head]: 'model-00001-of-00009.safetensors' } }))
    await expectSameAs(id)

    await rm(dir, { recursive: true })
    await writeCheckpoint(dir, { files: 2 })
    await expectSameAs(id)
    const listed = await readFile(index())
    await rm(index())
    await expectSameAs(id)

    const first = [...tensors].filter((_, i) => i % 2 === 0)
    const [name] = [...tensors][1]!
    const other = { ...tensors.get(name)!, bytes: new Uint8Array(tensors.get(name)!.bytes.length) }
    await writeFile(part(1), encodeSafetensors(new Map([...first, [name, other]])))
    await expect(importModel(dir, store, { name: 'x' })).rejects.toThrow(/is in two files, and no index says/)
    await writeFile(index(), listed)
    await expectSameAs(id)
  })

  it.each<[string, RegExp, () => Promise<unknown>]>([
    [
      'a part that is not there',
      /has 1 of the 2 parts model-\*-of-00002\.safetensors/,
      async () => {
        await rm(index())
        await rm(part(2))
      }
    ],
    [
      'parts of two sets',
      /parts of several sets/,
      async () => {
        await rm(index())
        await writeFile(join(dir, 'old-00001-of-00001.safetensors'), await readFile(part(1)))
      }
    ],
    ['an index without a map', /has no weight_map/, () => writeFile(index(), '{}')],
    [
      'an index that names a path',
      /"\.\.\/x\.safetensors" is not a safetensors file in the same folder/,
      () => writeFile(index(), JSON.stringify({ weight_map: { [head]: '../x.safetensors' } }))
    ],
    [
      'an index that names a tensor that its file lacks',
      /model-00001-of-00002\.safetensors: lacks tensor nothing/,
      () => patchJson(index(), json => addToMap(json, 'nothing', 'model-00001-of-00002.safetensors'))
    ],
    [
      'a git-lfs pointer as weights',
      /model-00001-of-00002\.safetensors: is a git-lfs pointer.*git lfs pull/,
      () => writeFile(part(1), LFS_POINTER)
    ],
    [
      'a git-lfs pointer as a tokenizer',
      /tokenizer\.json: is a git-lfs pointer/,
      () => writeFile(join(dir, 'tokenizer.json'), LFS_POINTER)
    ],
    [
      'a web page as weights',
      /model-00002-of-00002\.safetensors: is an HTML page/,
      () => writeFile(part(2), '\n<!DOCTYPE html><html><body>Sign in</body></html>')
    ],
    [
      'a web page as a configuration',
      /config\.json: is an HTML page/,
      () => writeFile(join(dir, 'config.json'), '<html></html>')
    ],
    [
      'a tokenizer without merges',
      /tokenizer\.json: model\.merges is missing/,
      () =>
        patchJson(join(dir, 'tokenizer.json'), json => {
          const { merges: _, ...model } = json.model as Record<string, unknown>
          return { ...json, model }
        })
    ]
  ])('are refused with %s', async (_, message, damage) => {
    await writeCheckpoint(dir, { files: 2 })
    await damage()
    await expect(importModel(dir, store, { name: 'x' })).rejects.toThrow(message)
    expect(await store.list()).toEqual([])
  })

  it('are refused when a file changes meanwhile', async () => {
    for (const threads of [1, 2]) {
      await writeCheckpoint(dir)
      const onProgress = (done: number) => done === 1 && utimesSync(weights(), 1, 1)
      const changed = importModel(dir, store, { name: 'x', threads, onProgress })
      await expect(changed).rejects.toThrow(/model\.safetensors: was changed while it was imported/)
      expect(await store.list()).toEqual([])
    }
  })

  it('have a tokenizer of the class that their architecture has by default', async () => {
    for (const [model_type, options, expected] of [
      ['llama', {}, 'LlamaTokenizer'],
      ['qwen3', { norms: true }, 'Qwen2Tokenizer']
    ] as const) {
      await rm(dir, { recursive: true, force: true })
      await writeCheckpoint(dir, { ...options, config: { model_type, head_dim: 8 } })
      await writeFile(join(dir, 'tokenizer_config.json'), '{"bos_token":"<s>"}')
      const model = await importModel(dir, store, { name: 'x' })
      const config = await store.readSideFile(model, 'tokenizer_config.json')
      expect(JSON.parse(new TextDecoder().decode(config))).toEqual({
        bos_token: '<s>',
        tokenizer_class: expected
      })
    }
  })
})

describe('chat templates', () => {
  const notices = async (template: unknown) => {
    await writeCheckpoint(dir)
    await writeFile(join(dir, 'tokenizer_config.json'), JSON.stringify({ chat_template: template }))
    const said: string[] = []
    await importModel(dir, store, { name: 'x', onNotice: notice => said.push(notice) })
    return said
  }

  it('are rendered once, and what they cannot do is said', async () => {
    expect(await notices('{% for m in messages %}{{ m.content }}{% endfor %}')).toEqual([])
    expect(await notices('{% for m in messages')).toEqual([
      expect.stringMatching(/cannot render one message of a user.*not valid/)
    ])
    const strict =
      "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{% endfor %}"
    // A system message is put before the user's text then.
    expect(await notices(strict)).toEqual([])
    expect(await notices(strict.replace('system', 'assistant'))).toEqual([
      expect.stringMatching(/cannot render a second turn.*no system/)
    ])
    expect(await notices('{% include "x" %}')).toEqual([
      expect.stringMatching(/so chats with it are refused: .*Unknown statement type: include/)
    ])
  })

  it('say that raw prompts get no token behind them', async () => {
    await writeCheckpoint(dir)
    await writeFile(join(dir, 'tokenizer_config.json'), JSON.stringify({ add_eos_token: true }))
    const said: string[] = []
    await importModel(dir, store, { name: 'x', onNotice: notice => said.push(notice) })
    expect(said).toEqual([expect.stringMatching(/add_eos_token/)])
  })
})

const LFS_POINTER = `version https://git-lfs.github.com/spec/v1\noid sha256:${'a'.repeat(64)}\nsize 1171200\n`

function addToMap(json: Record<string, unknown>, tensor: string, file: string): unknown {
  return { ...json, weight_map: { ...(json.weight_map as object), [tensor]: file } }
}

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
    [{ rope_scaling: { type: 'ntk', factor: 4 } }, /rope scaling "ntk" is not supported/],
    [{ attention_bias: true }, /attention_bias/],
    [{ mlp_bias: true }, /mlp_bias/],
    [{ quantization_config: { quant_method: 'gptq' } }, /quantization_config: bits: /],
    [{ num_key_value_heads: 3 }, /not a multiple/],
    [{ num_hidden_layers: 100_000 }, /decoderLayers/],
    [{ hidden_size: -1 }, /hidden_size/],
    [{ hidden_size: '32' }, /hidden_size/],
    [{ head_dim: 7 }, /odd/],
    [{ rope_scaling: { rope_type: 'llama3', factor: 8 } }, /rope scaling llama3 lacks a low_freq_factor/],
    [{ rope_scaling: { type: 'linear' } }, /rope scaling linear lacks a factor/],
    [{ rope_scaling: { type: 'linear', factor: 0 } }, /rope_scaling\.factor is 0, not a number above 0/],
    [
      { rope_scaling: { type: 'linear', factor: 4, beta_fast: 32 } },
      /rope_scaling\.beta_fast is not supported/
    ],
    [
      { rope_scaling: { type: 'linear', factor: 4, attention_factor: 1.2 } },
      /rope_scaling\.attention_factor/
    ],
    [{ rope_scaling: { factor: 4 } }, /rope_scaling\.factor is not supported with rope scaling default/],
    [
      { rope_scaling: { type: 'linear', rope_type: 'llama3', factor: 4 } },
      /has the rope_type "llama3" and the type/
    ],
    [{ rope_scaling: 'linear' }, /rope_scaling is not an object/],
    [{ rope_parameters: { partial_rotary_factor: 0.5 } }, /rope_parameters\.partial_rotary_factor 0\.5/],
    [{ partial_rotary_factor: 0.5 }, /partial_rotary_factor 0\.5 is not supported/],
    [
      { rope_parameters: { full_attention: { rope_theta: 1e6 }, sliding_attention: { rope_theta: 1e4 } } },
      /rope_parameters\.full_attention is not supported: .* from layer to layer/
    ],
    [
      { rope_parameters: { rope_theta: 10_000 }, rope_scaling: { type: 'linear', factor: 4 } },
      /rope_parameters and rope_scaling differ/
    ],
    [{ rope_parameters: { rope_theta: 500_000 } }, /rope_theta is given as 10000 and as 500000/],
    [{ attention_scale_factor: 2 }, /the key "attention_scale_factor" is not known for llama/],
    [{ text_config: { hidden_size: 32 } }, /the key "text_config" is not known/],
    [{ sliding_window_pattern: 4 }, /the key "sliding_window_pattern" is not known/],
    [{ quantization: { bits: 3, group_size: 64 } }, /quantization: bits: /],
    [
      { layer_types: ['full_attention', 'sliding_attention'] },
      /layer_types has "sliding_attention".* for llama/
    ],
    [
      { model_type: 'qwen2', layer_types: ['sliding_attention', 'sliding_attention'] },
      /layer_types has windows, but there is no/
    ],
    [
      { model_type: 'qwen2', layer_types: ['full_attention'] },
      /layer_types has 1 entries, but there are 2 layers/
    ],
    [{ model_type: 'mistral', layer_types: ['chunked_attention'] }, /"chunked_attention"/],
    [{ model_type: 'mistral', sliding_window: 0 }, /sliding_window is 0/]
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
    expect(parse({ model_type: 'mistral', num_key_value_heads: null }).shape.kvHeads).toBe(4)
    const eight = { ...rest, model_type: 'mistral', num_attention_heads: 8, hidden_size: 64 }
    expect(parseConfig({ ...eight, num_attention_heads: 16 }, 'c').shape.kvHeads).toBe(8)
    const parameters = { ...scaling, rope_type: 'llama3', rope_theta: 500_000 }
    expect(parseConfig({ ...rest, rope_parameters: parameters }, 'c').shape.rope).toEqual(expected)
    const both = { rope_parameters: parameters, rope_scaling: { ...scaling, type: 'llama3' } }
    expect(parseConfig({ ...rest, ...both }, 'c').shape.rope).toEqual(expected)
    for (const none of [{}, null, { rope_type: 'default' }, { type: 'default', factor: null }]) {
      expect(parse({ rope_scaling: none }).shape.rope).toEqual({ theta: 10_000 })
    }
  })

  it('passes over what transformers does not compute by', () => {
    const noise = {
      _name_or_path: 'x',
      transformers_version: '5.0.0',
      unsloth_fixed: true,
      auto_map: { AutoConfig: 'configuration_llama.LlamaConfig' },
      pretraining_tp: 2,
      logits_scaling: 2,
      num_local_experts: 8,
      use_mrope: false,
      unheard_of: null,
      sliding_window: 0,
      hidden_act: 'swish'
    }
    expect(parse(noise).shape).toEqual(parse({}).shape)
  })

  it('gives layers the windows that their class gives them', () => {
    const windows = (patch: Record<string, unknown>) => {
      const { shape } = parse(patch)
      return expandBlocks(shape).map(({ attention }) => attention.window)
    }
    const none = [undefined, undefined]
    expect(windows({ model_type: 'mistral', sliding_window: 32 })).toEqual([32, 32])
    expect(windows({ model_type: 'mistral', sliding_window: null })).toEqual(none)
    expect(windows({ model_type: 'qwen2', sliding_window: 32 })).toEqual(none)
    // One that hides nothing is none.
    expect(windows({ model_type: 'mistral', sliding_window: 64 })).toEqual(none)
    const long = { max_position_embeddings: 32_768 }
    // What a file leaves out is its class's default.
    expect(windows({ model_type: 'mistral', ...long })).toEqual([4096, 4096])
    const windowed = { model_type: 'qwen3', ...long, use_sliding_window: true }
    expect(windows({ ...windowed, max_window_layers: 0 })).toEqual([4096, 4096])
    expect(windows({ ...windowed, max_window_layers: 1, sliding_window: 512 })).toEqual([undefined, 512])
    // No layer has a window: those behind the last one would.
    expect(windows({ ...windowed, max_window_layers: 2, sliding_window: 512 })).toEqual(none)
    expect(windows({ ...windowed, sliding_window: 512 })).toEqual(none)
    const types = { layer_types: ['full_attention', 'sliding_attention'] }
    expect(windows({ ...windowed, ...types, sliding_window: 512 })).toEqual([undefined, 512])
    const full = { layer_types: ['full_attention', 'full_attention'] }
    expect(windows({ ...windowed, ...full, sliding_window: 512 })).toEqual(none)
  })

  it.skipIf(!hasSharedData).each([
    ['Llama-2-7b-hf', { decoderLayers: 32, headSize: 128, kvHeads: 32 }],
    ['Llama-2-70b-chat-hf', { decoderLayers: 80, headSize: 128, kvHeads: 8 }],
    ['Llama-3.2-1B', { decoderLayers: 16, headSize: 64, rope: { theta: 500_000, scaling: { factor: 32 } } }],
    [
      'Mistral-7B-Instruct-v0.1',
      { contextLength: 32_768, kvHeads: 8, blocks: [{ attention: { window: 4096 } }] }
    ],
    ['Qwen2.5-0.5B', { contextLength: 32_768, headSize: 64, vocabSize: 151_936 }]
  ])('reads that of %s', async (name, shape) => {
    const json = JSON.parse(await readFile(sharedData(`configs/${name}.json`), 'utf8'))
    expect(parseConfig(json, name).shape).toMatchObject(shape)
  })
})

async function patchJson(path: string, patch: (json: Record<string, unknown>) => unknown): Promise<void> {
  await writeFile(path, JSON.stringify(patch(JSON.parse(await readFile(path, 'utf8')))))
}
