import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseConfig, parseGenerationConfig } from '../../models/import/config.ts'
import { importModel } from '../../models/import/import-model.ts'
import { tokenizerFromRanks } from '../../models/import/tiktoken.ts'
import { checkVocabulary } from '../../models/import/vocabulary.ts'
import { unwrapConfig } from '../../models/import/wrappers.ts'
import { parseManifest, serializeManifest } from '../../models/manifest.ts'
import { ModelStore } from '../../models/store/store.ts'
import {
  encodeSafetensors,
  joinSafetensors,
  TINY_CONFIG,
  tinyTokenizer,
  writeCheckpoint
} from '../fixtures/checkpoint.ts'
import { DEEPSEEK, deepseekConfig, deepseekGguf, writeDeepseek } from '../fixtures/deepseek.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { encodeGguf, type GgufContent, tinyGguf } from '../fixtures/gguf.ts'
import { GPT_OSS_CONFIG, tinyGptOss } from '../fixtures/gpt-oss.ts'
import { storeGuessingModel } from '../fixtures/guessing-model.ts'
import { mutateBytes, mutateJson, otherValue, pick, type Random } from '../fixtures/mistakes.ts'
import {
  NANO,
  VOCABULARY as NEMOTRON_VOCABULARY,
  nemotronConfig,
  nemotronGguf
} from '../fixtures/nemotron-h.ts'
import { prng } from '../fixtures/prng.ts'
import { randomTensors } from '../fixtures/published-checkpoint.ts'
import {
  AWQ,
  awq,
  compressed,
  compressedConfig,
  FP8,
  fp8,
  GPTQ,
  GROUP,
  gptq,
  mlx,
  type Writer,
  weights,
  writeQuantized
} from '../fixtures/quantized-folder.ts'
import { LATENT, randomModel, STATEFUL } from '../fixtures/random-model.ts'
import { STATE_CONFIGS } from '../fixtures/state-checkpoints.ts'
import { nemotronShapes } from '../reference/nemotron-h.ts'

/** Cases of each kind: the short form; EDGESHARD_FUZZ_CASES says how many the long one has. */
const CASES = Number(process.env.EDGESHARD_FUZZ_CASES ?? 500)
const TYPED = new Set(['CheckpointError', 'UnsupportedModelError', 'ManifestError'])
/** What reading a few kilobytes may cost: far below what a count or size taken at its word would. */
const MAX_GROWTH_BYTES = 1024 ** 3
const TIMEOUT_MS = 1_800_000

/** Counts how cases end; anything but success or a typed error is the test's failure, with the case's number. */
class Tally {
  readonly counts = new Map<string, number>()
  /** Cases that got past the outer parse: a sound header or JSON of the right kind. */
  inside = 0
  readonly #before = process.memoryUsage().rss

  ended(outcome: string, inside: boolean): void {
    this.counts.set(outcome, (this.counts.get(outcome) ?? 0) + 1)
    if (inside) this.inside++
  }

  error(error: unknown, seed: number, inside: boolean): void {
    const { name } = error as Error
    if (!TYPED.has(name)) throw new Error(`case ${seed} ended with ${name}`, { cause: error })
    this.ended(name, inside)
  }

  check(what: string, cases = CASES): void {
    const counts = [...this.counts].map(([name, count]) => `${name} ${count}`).join(', ')
    process.stdout.write(`fuzz ${what}: ${cases} cases, ${this.inside} past the outer parse: ${counts}\n`)
    expect([...this.counts.values()].reduce((a, b) => a + b, 0)).toBe(cases)
    expect(this.inside).toBeGreaterThan(cases / 3)
    expect(this.counts.size).toBeGreaterThan(1)
    expect(process.memoryUsage().rss - this.#before).toBeLessThan(MAX_GROWTH_BYTES)
  }
}

/** Runs `parse` on mutated JSON values; those are past the outer parse by their making. */
function fuzzJson(what: string, original: unknown, parse: (json: Record<string, unknown>) => void): void {
  const tally = new Tally()
  for (let seed = 0; seed < CASES; seed++) {
    const random = prng(seed)
    let json = mutateJson(random, original)
    for (let more = random(); more < 0.4; more = random()) json = mutateJson(random, json)
    const inside = typeof json === 'object' && json !== null && !Array.isArray(json)
    if (!inside) json = {}
    try {
      parse(json as Record<string, unknown>)
      tally.ended('accepted', inside)
    } catch (error) {
      tally.error(error, seed, inside)
    }
  }
  tally.check(what)
}

/** Folders whose weights are quantised. */
const QUANTIZED: [name: string, config: object, write: Writer][] = [
  ['GPTQ', GPTQ, gptq(4, false)],
  ['GPTQ in an order', { ...GPTQ, desc_act: true }, gptq(4, false, () => 0)],
  ['AWQ', AWQ, awq],
  ['MLX', { bits: 4, group_size: GROUP }, mlx(4)],
  ['FP8', FP8, fp8('tiles')],
  ['compressed-tensors', compressedConfig('pack-quantized', weights(4, false)), compressed(4, false)]
]

/** A file with a mistake in its header or anywhere. */
function mutatedSafetensors(sound: Uint8Array): (random: Random) => Uint8Array {
  const headerBytes = Number(new DataView(sound.buffer, sound.byteOffset).getBigUint64(0, true))
  const header = JSON.parse(new TextDecoder().decode(sound.subarray(8, 8 + headerBytes)))
  const data = sound.subarray(8 + headerBytes)
  return random => {
    const kind = random()
    if (kind < 0.15) return mutateBytes(random, sound, 8 + headerBytes)
    if (kind < 0.25) return mutateBytes(random, sound)
    return joinSafetensors(JSON.stringify(mutateJson(random, header)), data)
  }
}

const nanoGguf = () => nemotronGguf(NANO, randomTensors(nemotronShapes(NANO, NEMOTRON_VOCABULARY)))

describe('files of a checkpoint with mistakes', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>
  let store: ModelStore
  beforeAll(async () => {
    // In memory where the system offers that: thousands of files are written.
    folder = await temporaryFolder(existsSync('/dev/shm') ? '/dev/shm' : undefined)
    store = await ModelStore.open(join(folder.path, 'store'))
  })
  afterAll(() => folder[Symbol.asyncDispose]())

  async function fuzzFile(
    what: string,
    path: string,
    input: string,
    make: (random: Random) => Uint8Array,
    isInside: (bytes: Uint8Array, error?: Error) => boolean,
    cases = CASES
  ): Promise<void> {
    const tally = new Tally()
    for (let seed = 0; seed < cases; seed++) {
      const bytes = make(prng(seed))
      await writeFile(input, bytes)
      try {
        // Tokenizers have a fuzz test of their own, without a process for each case.
        await importModel(path, store, { name: 'fuzz', checkTokenizer: false })
        tally.ended('accepted', true)
      } catch (error) {
        tally.error(error, seed, isInside(bytes, error as Error))
      }
    }
    tally.check(what, cases)
    // Nothing half-made is left, and nothing was written anywhere else.
    expect(await readdir(join(store.dir, 'tmp'))).toEqual([])
    expect((await readdir(store.dir)).sort()).toEqual(['blobs', 'cache', 'lock', 'models', 'tmp'])
    expect(await readdir(join(store.dir, 'models'))).toEqual(['fuzz.json'])
    await store.verify(await store.resolve('fuzz'))
    await store.remove('fuzz')
    expect(await readdir(store.blobsDir)).toEqual([])
  }

  it('safetensors', { timeout: TIMEOUT_MS }, async () => {
    const dir = join(folder.path, 'safetensors')
    const config = { hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, vocab_size: 16 }
    const tensors = await writeCheckpoint(dir, { config })
    const make = mutatedSafetensors(encodeSafetensors(tensors))
    await fuzzFile('safetensors', dir, join(dir, 'model.safetensors'), make, isSafetensors)
  })

  it.each(QUANTIZED)(
    'safetensors in %s',
    { timeout: TIMEOUT_MS },
    async (name, quantization_config, write) => {
      const dir = join(folder.path, name)
      const config = { num_hidden_layers: 1, vocab_size: 16, quantization_config }
      await writeQuantized(dir, config, write)
      const path = join(dir, 'model.safetensors')
      const make = mutatedSafetensors(await readFile(path))
      await fuzzFile(name, dir, path, make, isSafetensors, Math.ceil(CASES / QUANTIZED.length))
    }
  )

  it.each(['mxfp4', 'floats'] as const)(
    'safetensors of gpt-oss in %s',
    { timeout: TIMEOUT_MS },
    async form => {
      const dir = join(folder.path, `gpt-oss-${form}`)
      await tinyGptOss().write(dir, form)
      const path = join(dir, 'model.safetensors')
      const make = mutatedSafetensors(await readFile(path))
      await fuzzFile(`gpt-oss in ${form}`, dir, path, make, isSafetensors, Math.ceil(CASES / 10))
    }
  )

  it('safetensors of DeepSeek', { timeout: TIMEOUT_MS }, async () => {
    const dir = join(folder.path, 'deepseek')
    const config = {
      ...DEEPSEEK,
      num_hidden_layers: 1,
      first_k_dense_replace: 0,
      n_routed_experts: 4,
      n_group: 2
    }
    await writeDeepseek(dir, 'deepseek_v3', { ...config, topk_group: 1, num_experts_per_tok: 1 }, {})
    const path = join(dir, 'model.safetensors')
    const make = mutatedSafetensors(await readFile(path))
    await fuzzFile('DeepSeek', dir, path, make, isSafetensors, Math.ceil(CASES / 10))
  })

  it.each([
    ['GGUF', () => tinyGguf({ other: 'Q4_0', attn_v: 'Q8_0', layers: 1 }), CASES],
    ['GGUF of DeepSeek', deepseekGguf, Math.ceil(CASES / 5)],
    ['GGUF of Nemotron-H', nanoGguf, Math.ceil(CASES / 10)]
  ] as const)('%s', { timeout: TIMEOUT_MS }, async (name, contentOf, cases) => {
    await mkdir(join(folder.path, 'gguf'), { recursive: true })
    const path = join(folder.path, 'gguf', 'model.gguf')
    const content = contentOf()
    const sound = encodeGguf(content)
    const headerBytes =
      sound.byteLength - [...content.tensors.values()].reduce((sum, t) => sum + t.bytes.length, 0)
    const make = (random: Random) => {
      const kind = random()
      if (kind < 0.35) return mutateBytes(random, sound, headerBytes)
      return encodeGguf(mutateGguf(random, content))
    }
    await fuzzFile(name, path, path, make, (_, error) => !OUTER_GGUF.test(error!.message), cases)
  })
})

describe('JSON with mistakes', () => {
  it('config.json and generation_config.json', { timeout: TIMEOUT_MS }, () => {
    const config = {
      ...TINY_CONFIG,
      head_dim: 8,
      sliding_window: 32,
      eos_token_id: [2, 3],
      rope_scaling: {
        rope_type: 'llama3',
        factor: 8,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 64
      }
    }
    const layered = {
      ...TINY_CONFIG,
      model_type: 'gemma3_text',
      hidden_act: 'gelu_pytorch_tanh',
      hidden_activation: 'gelu_pytorch_tanh',
      query_pre_attn_scalar: 32,
      sliding_window: 8,
      layer_types: ['sliding_attention', 'full_attention'],
      final_logit_softcapping: 8,
      rope_parameters: {
        full_attention: { rope_type: 'linear', factor: 8, rope_theta: 10_000 },
        sliding_attention: { rope_type: 'default', rope_theta: 10_000 }
      }
    }
    fuzzJson('config.json of layers of several kinds', layered, json => parseConfig(json, 'config.json'))
    const stretched = {
      ...TINY_CONFIG,
      model_type: 'phi3',
      partial_rotary_factor: 0.5,
      original_max_position_embeddings: 32,
      rope_scaling: { type: 'longrope', short_factor: [1, 2], long_factor: [2, 4] }
    }
    fuzzJson('config.json of stretched contexts', stretched, json => parseConfig(json, 'config.json'))
    const yarn = {
      type: 'yarn',
      factor: 4,
      original_max_position_embeddings: 32,
      mscale: 1,
      mscale_all_dim: 1
    }
    const deepseek = deepseekConfig('deepseek_v3', DEEPSEEK, { rope_scaling: yarn })
    fuzzJson('config.json of DeepSeek', deepseek, json => parseConfig(json, 'config.json'))
    fuzzJson('config.json of gpt-oss', GPT_OSS_CONFIG, json => parseConfig(json, 'config.json'))
    for (const config of Object.values(STATE_CONFIGS)) {
      fuzzJson(`config.json of ${config.model_type}`, config, json => parseConfig(json, 'config.json'))
    }
    fuzzJson('config.json of Nemotron-H', nemotronConfig(NANO), json => parseConfig(json, 'config.json'))
    const beside = {
      ...{ ...layered, model_type: 'gemma4_text', query_pre_attn_scalar: null },
      ...{ hidden_size_per_layer_input: 0, num_kv_shared_layers: 0, attention_k_eq_v: true },
      ...{ global_head_dim: 16, num_global_key_value_heads: 1, enable_moe_block: true, num_experts: 4 },
      ...{ top_k_experts: 2, moe_intermediate_size: 32 },
      rope_parameters: {
        full_attention: { rope_type: 'proportional', partial_rotary_factor: 0.5, rope_theta: 10_000 },
        sliding_attention: { rope_type: 'default', rope_theta: 10_000 }
      }
    }
    fuzzJson('config.json of Gemma 4', beside, json => parseConfig(json, 'config.json'))
    const wrapper = {
      model_type: 'gemma3',
      vision_config: {},
      text_config: { ...layered, num_attention_heads: 4 }
    }
    fuzzJson('config.json of texts and images', wrapper, json => {
      parseConfig(unwrapConfig(json, 'config.json').json, 'config.json')
    })
    fuzzJson('config.json', config, json => {
      parseConfig(json, 'config.json')
      parseGenerationConfig(json, 'generation_config.json')
    })
  })

  it('tokenizer.json', { timeout: TIMEOUT_MS }, () => {
    fuzzJson('tokenizer.json', tinyTokenizer(24), json => checkVocabulary(json, 24, 'tokenizer.json'))
  })

  it('a tokenizer by ranks, and the configuration beside it', { timeout: TIMEOUT_MS }, () => {
    const file = Array.from({ length: 256 }, (_, byte) => Buffer.of(byte))
      .concat(['ab', 'bc', 'abc', 'abcab'].map(text => Buffer.from(text)))
      .map((token, rank) => `${token.toString('base64')} ${rank}\n`)
    const sound = Buffer.from(file.join(''))
    const config = {
      tokenizer_class: 'TikTokenTokenizer',
      auto_map: { AutoTokenizer: ['tokenization_kimi.TikTokenTokenizer', null] },
      added_tokens_decoder: { 260: { content: '[BOS]', special: true } }
    }
    let seed = 0
    fuzzJson('tokenizer by ranks', config, json => {
      const random = prng(seed++)
      // Half of the cases have their mistake in the file.
      const [bytes, own] = random() < 0.5 ? [mutateBytes(random, sound), config] : [sound, json]
      const made = tokenizerFromRanks('tiktoken.model', bytes, own, 600)
      checkVocabulary(JSON.parse(new TextDecoder().decode(made)), 600, 'tokenizer.json')
    })
  })

  it('manifests', { timeout: TIMEOUT_MS }, async () => {
    await using model = await randomModel({
      optional: ['qkv_bias'],
      quantization: { bits: 4, blockSize: 32 }
    })
    await using stateful = await randomModel({ shape: STATEFUL })
    fuzzJson(
      'manifest with states',
      JSON.parse(Buffer.from(serializeManifest(stateful.manifest)).toString()),
      mutated => parseManifest(new TextEncoder().encode(JSON.stringify(mutated)))
    )
    const sound = serializeManifest(model.manifest)
    const json = JSON.parse(new TextDecoder().decode(sound))
    await using latent = await randomModel({ shape: LATENT })
    const ofLatents = JSON.parse(new TextDecoder().decode(serializeManifest(latent.manifest)))
    fuzzJson('manifest of latent vectors', ofLatents, mutated =>
      parseManifest(new TextEncoder().encode(JSON.stringify(mutated)))
    )
    await using folder = await temporaryFolder()
    const guessing = serializeManifest(await storeGuessingModel(folder.path, 'guessing'))
    fuzzJson('manifest with a layer that guesses', JSON.parse(new TextDecoder().decode(guessing)), mutated =>
      parseManifest(new TextEncoder().encode(JSON.stringify(mutated)))
    )
    fuzzJson('manifest', json, mutated => parseManifest(new TextEncoder().encode(JSON.stringify(mutated))))
    for (let seed = 0; seed < CASES / 10; seed++) {
      const bytes = mutateBytes(prng(seed), sound)
      if (Buffer.compare(bytes, sound) === 0) continue
      // One digit may become another; every other change is seen.
      try {
        expect(serializeManifest(parseManifest(bytes))).toEqual(Uint8Array.from(bytes))
      } catch (error) {
        expect((error as Error).name).toBe('ManifestError')
      }
    }
  })
})

function isSafetensors(bytes: Uint8Array): boolean {
  if (bytes.byteLength < 8) return false
  const size = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true)
  if (size > bytes.byteLength - 8) return false
  try {
    const header = JSON.parse(
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(8, 8 + Number(size)))
    )
    return typeof header === 'object' && header !== null && !Array.isArray(header)
  } catch {
    return false
  }
}

/** What is said of a GGUF whose header cannot be read at all; every other error is about what the header says. */
const OUTER_GGUF =
  /GGUF header is damaged|ends inside its header|not a GGUF|is GGUF of version|too few|metadata entries/

/** A size near another one, or a 64-bit number far from it. */
function size(random: Random, near: number): number {
  const other = otherValue(random, near)
  return typeof other === 'number' && Number.isInteger(other) ? Math.min(Math.abs(other), 2 ** 60) : 0
}

/** Another value, size, type or place for one entry or tensor. */
function mutateGguf(random: Random, { metadata, tensors }: GgufContent): GgufContent {
  if (random() < 0.5) {
    const key = pick(random, Object.keys(metadata))
    const value = metadata[key]
    if (Array.isArray(value)) {
      const list = mutateJson(random, value)
      return { metadata: { ...metadata, [key]: Array.isArray(list) ? list : value.slice(1) }, tensors }
    }
    const other = otherValue(random, value)
    const writable =
      typeof other === 'object' || (typeof other === 'number' && (other < 0 || other >= 2 ** 32)) ? 7 : other
    return { metadata: { ...metadata, [key]: random() < 0.2 ? undefined : writable }, tensors }
  }
  const name = pick(random, [...tensors.keys()])
  const tensor = tensors.get(name)!
  const copy = new Map(tensors)
  switch (Math.floor(random() * 6)) {
    case 0:
      copy.delete(name)
      break
    case 1:
      copy.set(name, {
        ...tensor,
        dims: tensor.dims.map(n => size(random, n))
      })
      break
    case 2:
      copy.set(name, {
        ...tensor,
        type: pick(random, [
          'F32',
          'F16',
          'Q4_0',
          'Q8_0',
          'Q6_K',
          'Q4_K',
          'Q5_1',
          'IQ4_NL',
          'MXFP4',
          'Q3_K',
          'IQ2_S',
          'IQ1_M'
        ])
      })
      break
    case 3:
      copy.set(`${name}${pick(random, ['x', '\0', '../../x'])}`, tensor)
      break
    case 4:
      copy.set(name, { ...tensor, bytes: mutateBytes(random, tensor.bytes) })
      break
    default:
      copy.set(name, {
        ...tensor,
        dims: [...tensor.dims, ...tensor.dims, ...tensor.dims].slice(0, pick(random, [0, 1, 3, 5]))
      })
  }
  return { metadata, tensors: copy }
}
