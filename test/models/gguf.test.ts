import { utimesSync } from 'node:fs'
import { cp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Tokenizer } from '@huggingface/tokenizers'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { GgufFile } from '../../models/formats/gguf.ts'
import { readGgufHeader } from '../../models/formats/gguf-header.ts'
import { widen } from '../../models/formats/gguf-symmetric.ts'
import { GGUF_TYPES } from '../../models/formats/gguf-types.ts'
import { ggufConfig } from '../../models/import/gguf-config.ts'
import { scalingOfFactors } from '../../models/import/gguf-rope.ts'
import { ggufTokenizer } from '../../models/import/gguf-tokenizer.ts'
import { importModel } from '../../models/import/import-model.ts'
import type { Manifest } from '../../models/manifest.ts'
import { allocateBlocks, dequantizeRows } from '../../models/quantize.ts'
import { ModelStore } from '../../models/store/store.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { encodeGguf, type GgufContent, tinyGguf, writeGguf } from '../fixtures/gguf.ts'
import blocks from '../fixtures/gguf-blocks.json' with { type: 'json' }
import { hasSharedData, sharedData } from '../fixtures/shared-data.ts'

const TYPES = Object.values(GGUF_TYPES)

let folder: Awaited<ReturnType<typeof temporaryFolder>>
let path: string
let store: ModelStore
beforeEach(async () => {
  folder = await temporaryFolder()
  path = join(folder.path, 'model.gguf')
  store = await ModelStore.open(join(folder.path, 'store'))
})
afterEach(() => folder[Symbol.asyncDispose]())

describe('tensor types', () => {
  it.each(Object.entries(blocks.types))('decodes %s as ggml does', (name, golden) => {
    const type = TYPES.find(t => t.name === name)!
    const bytes = Uint8Array.from(Buffer.from(golden.bytes, 'base64'))
    const expected = new Float32Array(Uint8Array.from(Buffer.from(golden.floats, 'base64')).buffer)
    const count = bytes.byteLength / type.blockBytes
    const floats = type.floats(bytes, count)
    expect(floats).toHaveLength(expected.length)
    for (const [i, value] of expected.entries()) expect(floats[i]).toBeCloseTo(value, 4)
    if (type.packing === undefined) return
    const packed = allocateBlocks(expected.length / type.packing.blockSize, type.packing)
    type.pack!(bytes, count, packed)
    const unpacked = dequantizeRows(packed, expected.length, type.packing)
    if (type.packing.shifted) {
      // 8 d - m is rounded where d q - m is: each to float32.
      const largest = Math.max(...expected.map(Math.abs))
      for (const [i, value] of expected.entries()) {
        expect(Math.abs(unpacked[i]! - value)).toBeLessThanOrEqual(largest * 2 ** -22)
      }
    } else expect([...unpacked]).toEqual([...expected])
    // As part of a product whose other parts ask for smaller, wider or shifted blocks.
    const wide = { bits: 8, blockSize: 16, shifted: true } as const
    const widened = allocateBlocks(expected.length / wide.blockSize, wide)
    widen(packed, type.packing, wide, widened)
    const differing = dequantizeRows(widened, expected.length, wide).filter((x, i) => x !== unpacked[i])
    expect([...differing]).toEqual([])
  })
})

/** The floats that a projection of the first decoder layer is packed as, and how. */
async function readProjection(store: ModelStore, { layers }: Manifest, name: string) {
  const file = await readFile(store.blobPath(layers[1]!.sha256))
  const slice = (part: string) => {
    const entry = layers[1]!.tensors.find(t => t.name === `${name}.${part}`)
    return entry && Uint8Array.from(file.subarray(entry.offset, entry.offset + entry.bytes))
  }
  const packing = layers[1]!.tensors.find(t => t.name === `${name}.weight`)!.quantization!
  const shifts = slice('shifts')
  const packed = {
    weight: slice('weight')!,
    scales: new Float32Array(slice('scales')!.buffer),
    ...(shifts && { shifts: new Float32Array(shifts.buffer) })
  }
  const columns = (packed.weight.length * 8) / packing.bits
  return { packing, floats: dequantizeRows(packed, columns, packing) }
}

/** The values that a tensor of a file means. */
function sourceFloats({ tensors }: GgufContent, name: string): number[] {
  const { type, bytes } = tensors.get(name)!
  const known = TYPES.find(t => t.name === type)!
  return [...known.floats(bytes, bytes.byteLength / known.blockBytes)]
}

/** How many values differ; as many as there are where their numbers do. */
function differences(values: Float32Array, expected: number[]): number {
  if (values.length !== expected.length) return values.length + 1
  return expected.filter((value, i) => value !== values[i]).length
}

function relativeError(values: Float32Array, expected: number[]): number {
  const squared = (numbers: number[]) => numbers.reduce((sum, x) => sum + x * x, 0)
  return Math.sqrt(squared(expected.map((x, i) => x - values[i]!)) / squared(expected))
}

describe('import', () => {
  it('keeps blocks as they are, fuses blocks of different types exactly, and computes the head of a tied model', async () => {
    const { tensors } = tinyGguf({ attn_v: 'Q8_0', ffn_up: 'F32', other: 'Q4_0', tied: true })
    await writeGguf(path, tinyGguf({ attn_v: 'Q8_0', ffn_up: 'F32', other: 'Q4_0', tied: true }))
    const { manifest } = await importModel(path, store, { name: 'tiny' })
    const packing = (layer: number, name: string) =>
      manifest.layers[layer]!.tensors.find(t => t.name === `${name}.weight`)?.quantization
    expect(packing(1, 'attention_output')).toEqual({ bits: 4, blockSize: 32 })
    // q and k of 4 bits beside v of 8: all of them in 8.
    expect(packing(1, 'qkv')).toEqual({ bits: 8, blockSize: 32 })
    // A gate of 4 bits beside an up of floats: floats.
    expect(packing(1, 'gate_up')).toBeUndefined()
    expect(packing(3, 'output')).toEqual(packing(0, 'embedding'))
    expect(tensors.has('output.weight')).toBe(false)

    const { floats } = await readProjection(store, manifest, 'qkv')
    const source = (name: string) => {
      const { type, bytes: raw } = tensors.get(name)!
      const known = TYPES.find(t => t.name === type)!
      return [...known.floats(raw, raw.byteLength / known.blockBytes)]
    }
    // 4 query heads of 16 rows: row 1 of half-split order is row 2 of interleaved order, row 8 is row 1.
    const q = source('blk.0.attn_q.weight')
    expect([...floats.subarray(0, 64)]).toEqual(q.slice(0, 64))
    expect([...floats.subarray(64, 128)]).toEqual(q.slice(128, 192))
    expect([...floats.subarray(8 * 64, 9 * 64)]).toEqual(q.slice(64, 128))
    expect([...floats.subarray(64 * 64 + 32 * 64)]).toEqual(source('blk.0.attn_v.weight'))
  })

  it('takes experts out of the tensors that have all of them, in their own blocks, and the router in floats', async () => {
    const content = tinyGguf({ other: 'Q4_0', ffn_up: 'Q8_0', experts: 3, layers: 1 })
    await writeGguf(path, content)
    const { manifest } = await importModel(path, store, { name: 'tiny' })
    expect(manifest.shape.blocks[0]!.feedForward).toEqual({
      ...{ kind: 'experts', activation: 'silu', experts: 3, used: 2, router: 'softmax' },
      normalised: true
    })
    const source = (name: string) => {
      const { type, bytes: raw } = content.tensors.get(`blk.0.${name}.weight`)!
      const known = TYPES.find(t => t.name === type)!
      return [...known.floats(raw, raw.byteLength / known.blockBytes)]
    }
    const { floats, packing } = await readProjection(store, manifest, 'expert_gate_up')
    expect(packing).toEqual({ bits: 8, blockSize: 32 })
    const [gate, up] = [source('ffn_gate_exps'), source('ffn_up_exps')]
    const expert = (all: number[], i: number) => all.slice(i * 64 * 64, (i + 1) * 64 * 64)
    expect([...floats]).toEqual([0, 1, 2].flatMap(i => [...expert(gate, i), ...expert(up, i)]))
    expect((await readProjection(store, manifest, 'expert_down')).packing).toEqual({ bits: 4, blockSize: 32 })
    const router = manifest.layers[1]!.tensors.find(({ name }) => name === 'router')
    expect(router).toMatchObject({ type: 'float32', shape: [3, 64] })
  })

  it.each(['Q4_1', 'Q5_1'])('keeps blocks of %s with their minima, beside blocks without', async type => {
    const content = tinyGguf({ other: type, ffn_up: 'Q4_0' })
    await writeGguf(path, content)
    const { manifest } = await importModel(path, store, { name: 'tiny' })
    for (const [name, parts] of [
      ['gate_up', ['ffn_gate', 'ffn_up']],
      ['ffn_down', ['ffn_down']]
    ] as const) {
      const { floats, packing } = await readProjection(store, manifest, name)
      expect(packing).toEqual({ bits: type === 'Q4_1' ? 4 : 8, blockSize: 32, shifted: true })
      const expected = parts.flatMap(part => {
        const tensor = content.tensors.get(`blk.0.${part}.weight`)!
        const known = TYPES.find(t => t.name === tensor.type)!
        return [...known.floats(tensor.bytes, tensor.bytes.byteLength / known.blockBytes)]
      })
      expect(floats).toHaveLength(expected.length)
      for (const [i, value] of expected.entries()) expect(Math.abs(floats[i]! - value)).toBeLessThan(1e-6)
    }
  })

  it.each([
    ['IQ4_NL', 64, { bits: 8, blockSize: 32 }],
    ['MXFP4', 64, { bits: 8, blockSize: 32 }],
    ['IQ4_XS', 256, { bits: 8, blockSize: 32 }],
    ['Q3_K', 256, { bits: 4, blockSize: 16 }],
    ['IQ3_S', 256, { bits: 4, blockSize: 32, shifted: true }]
  ] as const)(
    'keeps the values of %s, and shows first what rounding would save',
    async (type, width, own) => {
      const content = tinyGguf({ other: type, width, layers: 1 })
      await writeGguf(path, content)
      const heard: string[] = []
      const { manifest } = await importModel(path, store, {
        name: 'tiny',
        onNotice: notice => heard.push(notice),
        onProgress: done => heard.push(`layer ${done}`)
      })
      const { floats, packing } = await readProjection(store, manifest, 'ffn_down')
      expect(packing).toEqual(own)
      expect(differences(floats, sourceFloats(content, 'blk.0.ffn_down.weight'))).toBe(0)
      expect(heard[0]).toMatch(
        /^with its own values the model takes .* MB in the store, \d\.\d\d times .*--quantize q4 .* error of \d/
      )
      expect(heard[1]).toBe('layer 1')
    }
  )

  it.each([
    ['Q2_K', { bits: 4, blockSize: 16, shifted: true }],
    ['IQ3_XXS', { bits: 8, blockSize: 32 }],
    ['IQ2_S', { bits: 8, blockSize: 16 }],
    ['IQ2_XXS', { bits: 8, blockSize: 32 }],
    ['IQ1_S', { bits: 8, blockSize: 32 }]
  ] as const)(
    'rounds %s, whose own values would take several times its bytes, and says so first',
    async (type, own) => {
      const content = tinyGguf({ other: type, width: 256, layers: 1 })
      await writeGguf(path, content)
      const notices: string[] = []
      const options = {
        name: 'tiny',
        checkTokenizer: false,
        onNotice: (notice: string) => notices.push(notice)
      }
      const rounded = await readProjection(
        store,
        (await importModel(path, store, options)).manifest,
        'ffn_down'
      )
      expect(rounded.packing).toEqual({ bits: 4, blockSize: 32 })
      const expected = sourceFloats(content, 'blk.0.ffn_down.weight')
      const [, said] = new RegExp(
        `^${type}: rounded to 4 bits in blocks of 32, at a relative error of (.*) %`
      ).exec(notices[0]!)!
      expect(Number(said) / 100).toBeCloseTo(relativeError(rounded.floats, expected), 1)
      const exact = await importModel(path, store, { ...options, quantize: 'none' })
      const kept = await readProjection(store, exact.manifest, 'ffn_down')
      expect(kept.packing).toEqual(own)
      expect(differences(kept.floats, expected)).toBe(0)
    }
  )

  it.each([
    ['another architecture', { 'general.architecture': 'gpt2' }, /"gpt2" is not supported/],
    ['experts of unknown number', { 'llama.expert_count': 8 }, /expert_used_count is missing/],
    [
      'another kind of router',
      { 'llama.expert_count': 8, 'llama.expert_used_count': 2, 'llama.expert_gating_func': 2 },
      /expert_gating_func is not what mixtral has/
    ],
    [
      'weights that are no whole where they are meant to be',
      { 'llama.expert_count': 8, 'llama.expert_used_count': 2, 'llama.expert_weights_norm': false },
      /expert_weights_norm is not what mixtral has/
    ],
    [
      'experts that no layer has',
      { 'llama.expert_count': 8, 'llama.expert_used_count': 2 },
      /tensor blk\.0\.ffn_gate_inp\.weight is missing/
    ],
    [
      'more experts in use than there are',
      { 'llama.expert_count': 8, 'llama.expert_used_count': 9 },
      /used is more than there are experts/
    ],
    [
      'a part that has lost its name',
      { 'split.count': 2 },
      /is part of a model of 2 files, but is not called/
    ],
    ['partial rotary embedding', { 'llama.rope.dimension_count': 8 }, /rotary embedding of 8 of 16/],
    ['a scaling that is none', { 'llama.rope.scaling.type': 'ntk' }, /rope scaling "ntk"/],
    ['a missing number', { 'llama.block_count': undefined }, /llama\.block_count is missing/],
    ['a number of the wrong kind', { 'llama.block_count': 'two' }, /llama\.block_count is not a number/],
    ['an unknown tokenizer', { 'tokenizer.ggml.model': 'bert' }, /tokenizer "bert" is not supported/],
    [
      'an unknown way to cut text',
      { 'tokenizer.ggml.model': 'gpt2', 'tokenizer.ggml.pre': 'x' },
      /pre-tokenizer "x"/
    ],
    [
      'a key that it does not know',
      { 'llama.attention.clamp_kqv': 1.5 },
      /"llama\.attention\.clamp_kqv" is not known/
    ],
    [
      'a key of the tokenizer that it does not know',
      { 'tokenizer.ggml.reversed': true },
      /"tokenizer\.ggml\.reversed" is not known/
    ],
    [
      'a factor on attention',
      { 'llama.rope.scaling.attn_factor': 1.2 },
      /attn_factor 1\.2.* is not supported/
    ],
    ['attention in both directions', { 'llama.attention.causal': false }, /not causal/],
    [
      'an end behind every prompt',
      { 'tokenizer.ggml.add_eos_token': true },
      /add_eos_token is not supported/
    ],
    [
      'heads that differ',
      { 'llama.attention.head_count_kv': [2, 4] },
      /head_count_kv differs from layer to layer/
    ],
    ['a token that is not there', { 'tokenizer.ggml.eos_token_id': 9999 }, /eos token 9999 is outside/]
  ])('refuses %s', async (_, metadata, message) => {
    await writeGguf(path, tinyGguf({ metadata }))
    await expect(importModel(path, store, { name: 'tiny' })).rejects.toThrow(message)
  })

  it
    .skipIf(!hasSharedData)
    .each([
      ...['llama2-mha', 'llama3-gqa-rope', 'mistral', 'qwen2-bias', 'qwen3-qknorm'],
      ...['mixtral', 'qwen2-moe-shared', 'gemma4-moe']
    ])('gives the same weights and shape from the GGUF of %s as from its folder', async arch => {
    const folder = await importModel(sharedData(`arch/${arch}/hf`), store, { name: 'hf' })
    const file = await importModel(sharedData(`arch/${arch}/model.gguf`), store, { name: 'gguf' })
    expect(file.manifest.layers).toEqual(folder.manifest.layers)
    expect(file.manifest.eosTokenIds).toEqual(folder.manifest.eosTokenIds)
    // GGUF calls Mistral llama and keeps the epsilon in float32.
    expect({ ...file.manifest.shape, architecture: '', normEpsilon: 0 }).toEqual({
      ...folder.manifest.shape,
      architecture: '',
      normEpsilon: 0
    })
  })
})

describe('metadata', () => {
  const config = async (metadata: Record<string, unknown>) => {
    await writeGguf(path, tinyGguf({ metadata }))
    const file = await GgufFile.open(path)
    try {
      return await ggufConfig(file)
    } finally {
      await file.close()
    }
  }
  const linear = (factor: number) => ({ theta: 10_000, scaling: { type: 'linear', factor } })

  it.each([
    [{ 'llama.rope.scaling.factor': 4 }, linear(4)],
    [{ 'llama.rope.scale_linear': 4 }, linear(4)],
    [{ 'llama.rope.scale_linear': 2, 'llama.rope.scaling.factor': 4 }, linear(4)],
    [{ 'llama.rope.scaling.type': 'linear', 'llama.rope.scaling.factor': 4 }, linear(4)],
    [{ 'llama.rope.scaling.type': 'none', 'llama.rope.scaling.factor': 4 }, { theta: 10_000 }],
    [{ 'llama.rope.scaling.type': 'linear', 'llama.rope.scaling.factor': 0 }, { theta: 10_000 }],
    [{ 'llama.rope.scaling.factor': 1 }, { theta: 10_000 }],
    [{ 'llama.rope.scaling.attn_factor': 1 }, { theta: 10_000 }]
  ])('scales positions as llama.cpp reads %j', async (metadata, rope) => {
    expect((await config(metadata)).shape.rope).toEqual(rope)
  })

  it('passes over what llama.cpp does not compute by, lists of one value, and tokens that are -1', async () => {
    const noise = {
      'general.name': 'x',
      'qwen2.rope.freq_base': 5,
      'llama.logit_scale': 2,
      'llama.tensor_data_layout': 'Meta AI original pth',
      'llama.attention.head_count_kv': [2, 2],
      'tokenizer.ggml.eot_token_id': 0xffffffff,
      'tokenizer.ggml.add_sep_token': false
    }
    const { shape } = await config(noise)
    expect(shape).toEqual((await config({})).shape)
    expect((await importModel(path, store, { name: 'x' })).manifest.eosTokenIds).toEqual([2])
  })

  it('computes both kinds of scaling where one is linear, and refuses them together otherwise', async () => {
    const content = tinyGguf({ metadata: { 'llama.rope.scaling.factor': 4 } })
    const divisors = (...values: number[]) => {
      const bytes = new Uint8Array(Float32Array.from(values).buffer)
      content.tensors.set('rope_freqs.weight', { type: 'F32', dims: [values.length], bytes })
    }
    const rope = async () => {
      await writeGguf(path, content)
      await using folder = await temporaryFolder()
      const target = await ModelStore.open(folder.path)
      return (await importModel(path, target, { name: 'x' })).manifest.shape.rope
    }
    divisors(...Array.from({ length: 8 }, () => 2))
    expect(await rope()).toEqual(linear(8))
    divisors(...Array.from({ length: 8 }, () => 1))
    expect(await rope()).toEqual(linear(4))
    const shape = { factor: 8, low: 1, high: 4, context: 32 }
    divisors(
      ...Array.from({ length: 8 }, (_, i) => {
        const wavelength = 2 * Math.PI * 10_000 ** (i / 8)
        const smooth = (shape.context / wavelength - shape.low) / (shape.high - shape.low)
        return 1 / ((1 - Math.min(1, Math.max(0, smooth))) / shape.factor + Math.min(1, Math.max(0, smooth)))
      })
    )
    await expect(rope()).rejects.toThrow(/rope\.scaling\.factor 4 together with rope_freqs\.weight/)
  })
})

describe('files as people have them', () => {
  /** The parts of a model, as llama-gguf-split writes them. */
  async function writeParts(content: GgufContent, counts: number[]): Promise<string[]> {
    const tensors = [...content.tensors]
    const paths = counts.map((_, i) => join(folder.path, `m-0000${i + 1}-of-0000${counts.length}.gguf`))
    for (const [i, count] of counts.entries()) {
      const split = {
        'split.no': i,
        'split.count': counts.length,
        'split.tensors.count': content.tensors.size
      }
      const metadata = i === 0 ? { ...content.metadata, ...split } : split
      await writeGguf(paths[i]!, { metadata, tensors: new Map(tensors.splice(0, count)) })
    }
    return paths
  }

  it('come in parts, of which any may be named', async () => {
    const content = tinyGguf({ other: 'Q4_0', attn_v: 'Q8_0' })
    await writeGguf(path, content)
    const { id } = await importModel(path, store, { name: 'whole' })
    const counts = [0, 7, content.tensors.size - 7]
    const paths = await writeParts(content, counts)
    for (const [i, part] of paths.entries()) {
      expect((await importModel(part, store, { name: 'x', threads: 1 + (i % 2) })).id).toBe(id)
    }

    await rm(paths[0]!)
    await expect(importModel(paths[2]!, store, { name: 'x' })).rejects.toThrow(
      /m-00001-of-00003\.gguf: cannot be read/
    )
    await writeParts(content, counts)
    await rm(paths[1]!)
    await expect(importModel(paths[0]!, store, { name: 'x' })).rejects.toThrow(
      /m-00002-of-00003\.gguf: cannot be read/
    )
    await cp(paths[2]!, paths[1]!)
    await expect(importModel(paths[0]!, store, { name: 'x' })).rejects.toThrow(/says that it is part 2 of 3/)
    await writeParts(content, [0, 7, content.tensors.size - 8])
    await expect(importModel(paths[0]!, store, { name: 'x' })).rejects.toThrow(
      /have 20 tensors together, not 21/
    )
  })

  it.each<[string, () => Promise<unknown>, RegExp]>([
    ['another byte order', () => writeFile(path, bigEndian()), /is a big-endian GGUF file/],
    [
      'a git-lfs pointer',
      () =>
        writeFile(path, `version https://git-lfs.github.com/spec/v1\noid sha256:${'a'.repeat(64)}\nsize 9\n`),
      /model\.gguf: is a git-lfs pointer/
    ],
    ['a web page', () => writeFile(path, '<!doctype html><title>x</title>'), /model\.gguf: is an HTML page/],
    ['something else', () => writeFile(path, 'GGML'), /is neither a GGUF file nor a folder/]
  ])('are refused with %s', async (_, write, message) => {
    await write()
    await expect(importModel(path, store, { name: 'x' })).rejects.toThrow(message)
  })

  it('are refused when they change meanwhile', async () => {
    await writeGguf(path, tinyGguf())
    const onProgress = (done: number) => done === 1 && utimesSync(path, 1, 1)
    await expect(importModel(path, store, { name: 'x', onProgress })).rejects.toThrow(
      /model\.gguf: was changed while it was imported/
    )
    expect(await store.list()).toEqual([])
  })

  it.each([
    ['llama', ['<|begin_of_text|>', '<|eot_id|>'], '\\p{N}{1,3}', 'llama-bpe'],
    ['llama', ['[INST]', '[AVAILABLE_TOOLS]'], '\\p{Lu}', 'tekken'],
    ['llama', ['<repo_name>', '<|endoftext|>'], '\\p{N}"', 'smollm'],
    ['llama', [], '"use_regex":true', 'gpt-2'],
    ['qwen2', [], '\\p{N}|', 'qwen2']
  ])(
    'of %s with %j but no tokenizer.ggml.pre are cut by the likely rule, which is named',
    (arch, marks, rule, name) => {
      const tokens = [...marks, ...Array.from({ length: 40 }, (_, i) => String.fromCharCode(0x41 + i))]
      const metadata = new Map<string, unknown>([
        ['general.architecture', arch],
        ['tokenizer.ggml.model', 'gpt2'],
        ['tokenizer.ggml.tokens', tokens],
        ['tokenizer.ggml.merges', ['A B']]
      ])
      const { files, notices } = ggufTokenizer('f', metadata, 100)
      expect(notices).toEqual([
        expect.stringMatching(new RegExp(`pre is missing: text is cut as ${name} does`))
      ])
      const json = JSON.parse(new TextDecoder().decode(files.get('tokenizer.json')))
      expect(JSON.stringify(json.pre_tokenizer)).toContain(
        JSON.stringify(rule).slice(1, -1).replaceAll('\\"', '"')
      )
    }
  )
})

/** The beginning of a file of the other byte order. */
function bigEndian(): Uint8Array {
  const bytes = Buffer.alloc(64)
  bytes.write('GGUF')
  bytes.writeUInt32BE(3, 4)
  return bytes
}

describe('rope_freqs', () => {
  it('is not read where the size of heads, which gives its own, is beyond any model', async () => {
    const values = 2 ** 16
    const length = 2 * values
    const content = tinyGguf({
      metadata: { 'llama.attention.key_length': length, 'llama.attention.value_length': length }
    })
    const bytes = new Uint8Array(new Float32Array(values).fill(1).buffer)
    content.tensors.set('rope_freqs.weight', { type: 'F32', dims: [values], bytes })
    await writeGguf(path, content)
    const file = await GgufFile.open(path)
    const read = vi.spyOn(file, 'read')
    await expect(ggufConfig(file)).rejects.toThrow(/headSize/)
    expect(read).not.toHaveBeenCalled()
    await file.close()
  })

  it('is read as no scaling, as linear scaling, or refused', () => {
    const of = (...factors: number[]) => scalingOfFactors('f', Float32Array.from(factors), 10_000)
    expect(of(1, 1, 1)).toBeUndefined()
    expect(of(4, 4, 4)).toEqual({ type: 'linear', factor: 4 })
    expect(() => of(1, 7, 2)).toThrow(/not those of Llama 3/)
  })
})

describe.skipIf(!hasSharedData)('tokenizers of GGUF files', () => {
  it.each([
    ['gpt-2', "123|45|Ġdon|'t|Ġ|Ġe|Ì|ģ"],
    ['llama-bpe', "<|endoftext|>|123|45|Ġdon|'t|Ġ|Ġe|Ì|ģ"],
    ['qwen2', "1|2|3|4|5|Ġdon|'t|Ġ|ĠÃ©"],
    ['smollm', "1|2|3|4|5|Ġdon|'t|Ġ|Ġe|Ì|ģ"],
    ['tekken', "<|endoftext|>|1|2|3|4|5|Ġdon|'t|Ġ|Ġe|Ì|ģ"],
    ['falcon3', "<|endoftext|>|123|45|Ġdon|'t|Ġ|Ġe|Ì|ģ"],
    ['dbrx', "123|45|Ġdon|'t|Ġ|Ġe|Ì|ģ"],
    ['smaug-bpe', "123|45|Ġdon|'t|Ġ|Ġe|Ì|ģ"],
    ['glm4', "123|45|Ġdon|'t|Ġ|Ġe|Ì|ģ"],
    ['gpt-4o', "123|45|Ġdon|'t|Ġ|Ġe|Ì|ģ"],
    ['qwen35', "1|2|3|4|5|Ġdon|'t|Ġ|ĠÃ©"],
    ['refact', "1|2|3|4|5|Ġdon|'t|Ġ|Ġe|Ì|ģ"],
    ['deepseek-llm', "123|45|Ġdon|'|t|Ġ|Ġe|Ì|ģ"],
    ['deepseek-coder', "1|2|3|4|5|Ġdon|'|t|Ġ|Ġe|Ì|ģ"],
    ['deepseek-v3', "123|45|Ġdon|'t|Ġ|Ġe|Ì|ģ"],
    ['falcon', "123|45|Ġdon|'|t|Ġ|Ġe|Ì|ģ"],
    ['default', "123|45|Ġdon|'|t|Ġ|Ġe|Ì|ģ"],
    ['bloom', "123|45|Ġdon|'t|Ġ|Ġe|Ì|ģ"],
    ['viking', "1|2|3|4|5|Ġdon|'t|Ġ|Ġe|Ì|ģ"],
    ['seed-coder', "1|2|3|4|5|Ġdon|'t|Ġ|Ġe|Ì|ģ"],
    ['bailingmoe', "1|2|3|4|5|Ġdon|'t|Ġ|Ġe|Ì|ģ"]
  ])('cut digits, contractions, spaces and accents as %s does', async (family, expected) => {
    const file = await GgufFile.open(sharedData('tokenizers/gguf/ggml-vocab-gpt-2.gguf'))
    const metadata = new Map([...file.metadata, ['tokenizer.ggml.pre', family]])
    const { files } = ggufTokenizer(file.path, metadata, 2 ** 20)
    await file.close()
    const parse = (n: string) => JSON.parse(new TextDecoder().decode(files.get(n)))
    const tokenizer = new Tokenizer(parse('tokenizer.json'), parse('tokenizer_config.json'))
    expect(tokenizer.encode("12345 don't  e\u0301").tokens.join('|')).toBe(expected)
  })

  it.each([
    ['llama-spm', {}],
    ['gpt-2', {}],
    ['phi-3', {}]
  ])('encodes the test vectors of %s', async name => {
    const file = await GgufFile.open(sharedData(`tokenizers/gguf/ggml-vocab-${name}.gguf`))
    const { files } = ggufTokenizer(file.path, file.metadata, 2 ** 20)
    await file.close()
    const parse = (n: string) => JSON.parse(new TextDecoder().decode(files.get(n)))
    const tokenizer = new Tokenizer(parse('tokenizer.json'), parse('tokenizer_config.json'))
    const inputs = (await readFile(sharedData(`testvectors/ggml-vocab-${name}.inp`), 'utf8')).split(
      '\n__ggml_vocab_test__\n'
    )
    const outputs = (await readFile(sharedData(`testvectors/ggml-vocab-${name}.out`), 'utf8')).split('\n')
    expect(inputs.length).toBeGreaterThan(40)
    for (const [i, text] of inputs.entries()) {
      const ids = text === '' ? [] : tokenizer.encode(text, { add_special_tokens: false }).ids
      expect(ids.join(' '), JSON.stringify(text)).toBe(outputs[i]!.trim())
    }
  })
})

it("reads Gemma 4's vocabulary: pieces and merges, no space before a text, bytes for what has no piece", () => {
  const bytes = ['<0x0A>', '<0xC3>', '<0xA9>']
  const tokens = ['<unk>', '<bos>', '<turn|>', ...bytes, '▁', 'a', 'b', 'ab', '▁ab']
  const metadata = new Map<string, unknown>([
    ['general.architecture', 'gemma4'],
    ['tokenizer.ggml.model', 'gemma4'],
    ['tokenizer.ggml.tokens', tokens],
    ['tokenizer.ggml.token_type', [2, 3, 3, 6, 6, 6, 1, 1, 1, 1, 1]],
    ['tokenizer.ggml.merges', ['a b', '▁ ab']],
    ['tokenizer.ggml.bos_token_id', 1],
    ['tokenizer.ggml.unknown_token_id', 0]
  ])
  const { files, eosTokenIds } = ggufTokenizer('f', metadata, 100)
  const parse = (n: string) => JSON.parse(new TextDecoder().decode(files.get(n)))
  const tokenizer = new Tokenizer(parse('tokenizer.json'), parse('tokenizer_config.json'))
  expect(eosTokenIds).toEqual([2])
  expect(tokenizer.encode('ab ab\né').ids).toEqual([1, 9, 10, 3, 4, 5])
})

it('what a file cannot be read for is said as it is, not as damage', async () => {
  const bytes = encodeGguf(tinyGguf())
  const lost = new Error('the hub cannot be reached')
  for (const after of [0, 1]) {
    let reads = 0
    const read = async (offset: number, into: Uint8Array) => {
      if (reads++ >= after) throw lost
      into.set(bytes.subarray(offset, offset + into.length))
    }
    await expect(readGgufHeader({ path: 'f', size: bytes.length, read })).rejects.toBe(lost)
  }
})
