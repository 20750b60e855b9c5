import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Tokenizer } from '@huggingface/tokenizers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { GgufFile } from '../../models/formats/gguf.ts'
import { widen } from '../../models/formats/gguf-symmetric.ts'
import { GGUF_TYPES } from '../../models/formats/gguf-types.ts'
import { scalingOfFactors } from '../../models/import/gguf-config.ts'
import { ggufTokenizer } from '../../models/import/gguf-tokenizer.ts'
import { importModel } from '../../models/import/import-model.ts'
import type { Manifest } from '../../models/manifest.ts'
import { allocateBlocks, dequantizeRows } from '../../models/quantize.ts'
import { ModelStore } from '../../models/store/store.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { tinyGguf, writeGguf } from '../fixtures/gguf.ts'
import blocks from '../fixtures/gguf-blocks.json' with { type: 'json' }
import { hasSharedData, sharedData } from '../fixtures/shared-data.ts'

const TYPES = Object.values(GGUF_TYPES)

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
  return { packing, floats: dequantizeRows(packed, 64, packing) }
}

describe('import', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>
  let path: string
  let store: ModelStore
  beforeEach(async () => {
    folder = await temporaryFolder()
    path = join(folder.path, 'model.gguf')
    store = await ModelStore.open(join(folder.path, 'store'))
  })
  afterEach(() => folder[Symbol.asyncDispose]())

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
    ['another architecture', { 'general.architecture': 'gpt2' }, /"gpt2" is not supported/],
    ['experts', { 'llama.expert_count': 8 }, /mixture of experts/],
    ['a part of a split file', { 'split.count': 2 }, /split into several files/],
    ['partial rotary embedding', { 'llama.rope.dimension_count': 8 }, /rotary embedding of 8 of 16/],
    ['yarn', { 'llama.rope.scaling.type': 'yarn' }, /rope scaling "yarn"/],
    ['a missing number', { 'llama.block_count': undefined }, /llama\.block_count is missing/],
    ['a number of the wrong kind', { 'llama.block_count': 'two' }, /llama\.block_count is not a number/],
    ['an unknown tokenizer', { 'tokenizer.ggml.model': 'bert' }, /tokenizer "bert" is not supported/],
    [
      'an unknown way to cut text',
      { 'tokenizer.ggml.model': 'gpt2', 'tokenizer.ggml.pre': 'x' },
      /pre-tokenizer "x"/
    ],
    ['a token that is not there', { 'tokenizer.ggml.eos_token_id': 9999 }, /eos token 9999 is outside/]
  ])('refuses %s', async (_, metadata, message) => {
    await writeGguf(path, tinyGguf({ metadata }))
    await expect(importModel(path, store, { name: 'tiny' })).rejects.toThrow(message)
  })

  it.skipIf(!hasSharedData).each(['llama2-mha', 'llama3-gqa-rope', 'mistral', 'qwen2-bias', 'qwen3-qknorm'])(
    'gives the same weights and shape from the GGUF of %s as from its folder',
    async arch => {
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
    }
  )
})

describe('rope_freqs', () => {
  it('is read as no scaling, as linear scaling, or refused', () => {
    const of = (...factors: number[]) => scalingOfFactors('f', Float32Array.from(factors), 10_000)
    expect(of(1, 1, 1)).toEqual({})
    expect(of(4, 4, 4)).toEqual({ scaling: { type: 'linear', factor: 4 } })
    expect(() => of(1, 7, 2)).toThrow(/not those of Llama 3/)
  })
})

describe.skipIf(!hasSharedData)('tokenizers of GGUF files', () => {
  it.each([
    ['gpt-2', "123|45|Ġdon|'t|Ġ|Ġe|Ì|ģ"],
    ['llama-bpe', "<|endoftext|>|123|45|Ġdon|'t|Ġ|Ġe|Ì|ģ"],
    ['qwen2', "1|2|3|4|5|Ġdon|'t|Ġ|ĠÃ©"],
    ['smollm', "1|2|3|4|5|Ġdon|'t|Ġ|Ġe|Ì|ģ"],
    ['tekken', "<|endoftext|>|1|2|3|4|5|Ġdon|'t|Ġ|Ġe|Ì|ģ"]
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
