import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { GgufMetadata } from '../../models/import/gguf-metadata.ts'
import { importModel } from '../../models/import/import-model.ts'
import { ggufPooling, poolingOf } from '../../models/import/pooling-card.ts'
import { parseManifest, serializeManifest } from '../../models/manifest.ts'
import { ModelStore } from '../../models/store/store.ts'
import { loadTokenizer } from '../../models/tokenizer/tokenizer.ts'
import { writeCheckpoint } from '../fixtures/checkpoint.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { tinyGguf, writeGguf } from '../fixtures/gguf.ts'

const TRANSFORMER = { path: '', type: 'sentence_transformers.models.Transformer' }
const POOLING = { path: '1_Pooling', type: 'sentence_transformers.models.Pooling' }
const NORMALIZE = { path: '2_Normalize', type: 'sentence_transformers.models.Normalize' }

let folder: Awaited<ReturnType<typeof temporaryFolder>>
let dir: string
beforeEach(async () => {
  folder = await temporaryFolder()
  dir = folder.path
})
afterEach(() => folder[Symbol.asyncDispose]())

async function writeCard(
  config: object,
  modules: object[] = [TRANSFORMER, POOLING, NORMALIZE]
): Promise<void> {
  await mkdir(join(dir, '1_Pooling'), { recursive: true })
  await writeFile(join(dir, 'modules.json'), JSON.stringify(modules))
  await writeFile(join(dir, '1_Pooling', 'config.json'), JSON.stringify(config))
}

describe('a folder’s word on pooling', () => {
  it.each([
    [{ pooling_mode_mean_tokens: true, pooling_mode_cls_token: false }, 'mean'],
    [{ pooling_mode_lasttoken: true, include_prompt: true, word_embedding_dimension: 8 }, 'last'],
    [{ pooling_mode: 'lasttoken' }, 'last'],
    [{ pooling_mode: 'mean' }, 'mean']
  ])('%j', async (config, pooling) => {
    await writeCard(config)
    expect(await poolingOf(dir)).toBe(pooling)
  })

  it('is none where there is no module of it', async () => {
    expect(await poolingOf(dir)).toBeUndefined()
    await writeCard({}, [TRANSFORMER])
    expect(await poolingOf(dir)).toBeUndefined()
  })

  it.each([
    [{ pooling_mode_cls_token: true }, /pooling_mode_cls_token is not supported/],
    [{ pooling_mode_mean_tokens: true, pooling_mode_max_tokens: true }, /mean_tokens and pooling_mode_max/],
    [{ pooling_mode: 'constructor' }, /constructor is not supported/],
    [{}, /no way of pooling is not supported/],
    [{ pooling_mode_mean_tokens: true, include_prompt: false }, /without the prompt is not supported/]
  ])('%j is refused', async (config, message) => {
    await writeCard(config)
    await expect(poolingOf(dir)).rejects.toThrow(message)
  })

  it.each([
    [
      [TRANSFORMER, { path: '2_Dense', type: 'sentence_transformers.models.Dense' }],
      /models\.Dense" is not supported/
    ],
    [[{ ...POOLING, path: '..' }], /names a folder that is none/],
    [[{ ...POOLING, path: '3_Pooling' }], /3_Pooling.*is missing/],
    [[{ path: 1 }], /not a list of modules/]
  ])('modules %j are refused', async (modules, message) => {
    await writeCard({ pooling_mode: 'mean' }, modules)
    await expect(poolingOf(dir)).rejects.toThrow(message)
  })
})

it('a GGUF file’s word on pooling', () => {
  const said = (type?: number) => {
    const entries: [string, unknown][] = [['general.architecture', 'qwen3']]
    if (type !== undefined) entries.push(['qwen3.pooling_type', type])
    return ggufPooling(new GgufMetadata('x.gguf', new Map(entries)))
  }
  expect([said(), said(0), said(1), said(3)]).toEqual([undefined, undefined, 'mean', 'last'])
  expect(() => said(4)).toThrow('a model that ranks texts is not supported')
  expect(() => said(2)).toThrow('is 2')
})

describe('a model that is imported', () => {
  const open = async () => await ModelStore.open(join(dir, 'store'))

  it('from a folder keeps its word, and its id is another without', async () => {
    const store = await open()
    const checkpoint = join(dir, 'checkpoint')
    await mkdir(checkpoint)
    await writeCheckpoint(checkpoint)
    const without = await importModel(checkpoint, store, { name: 'without' })
    expect(without.manifest).not.toHaveProperty('pooling')
    dir = checkpoint
    await writeCard({ pooling_mode_lasttoken: true })
    const { id, manifest } = await importModel(checkpoint, store, { name: 'with' })
    expect(manifest.pooling).toBe('last')
    expect(parseManifest(serializeManifest(manifest)).pooling).toBe('last')
    expect(id).not.toBe(without.id)
  })

  it('from a GGUF file keeps its word, and the token behind texts', async () => {
    const store = await open()
    const path = join(dir, 'tiny.gguf')
    const metadata = { 'llama.pooling_type': 3, 'tokenizer.ggml.add_eos_token': true }
    await writeGguf(path, tinyGguf({ metadata }))
    const model = await importModel(path, store, { name: 'tiny' })
    expect(model.manifest.pooling).toBe('last')
    const files: Record<string, Uint8Array> = {}
    for (const name of Object.keys(model.manifest.files)) {
      files[name] = (await store.readSideFile(model, name))!
    }
    const tokenizer = await loadTokenizer({ files, bosTokenId: 1, eosTokenIds: [2] })
    expect(tokenizer.closingId).toBe(2)
    expect((await tokenizer.encode('AB')).at(-1)).not.toBe(2)
    await tokenizer.close()
  })
})
