import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GgufFile } from '../../models/formats/gguf.ts'
import { guessingManifest } from '../../models/guessing.ts'
import { ggufCheckpoint } from '../../models/import/gguf.ts'
import { planGuessing } from '../../models/import/guessing-plan.ts'
import { chooseRounding, planOptions } from '../../models/import/import-model.ts'
import { type Manifest, parseManifest, serializeManifest } from '../../models/manifest.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import { ModelStore } from '../../models/store/store.ts'
import { deepseekGguf } from '../fixtures/deepseek.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { writeGguf } from '../fixtures/gguf.ts'
import { storeGuessingModel } from '../fixtures/guessing-model.ts'

async function stored() {
  const folder = await temporaryFolder()
  const manifest = await storeGuessingModel(folder.path, 'guessing')
  const store = await ModelStore.open(folder.path)
  return { manifest, store, [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() }
}

describe('a manifest with a layer that guesses', () => {
  it('is the embedding, the layer and the head as a model of its own', async () => {
    await using model = await stored()
    const { manifest } = model
    expect(parseManifest(serializeManifest(manifest))).toEqual(manifest)
    const own = guessingManifest(manifest)!
    expect(own.layers).toEqual([manifest.layers[0], manifest.guessing!.layer, manifest.layers.at(-1)])
    expect(own.shape).toEqual({
      ...manifest.shape,
      decoderLayers: 1,
      blocks: [manifest.guessing!.block],
      layout: [0]
    })
    expect('guessing' in own).toBe(false)
  })

  it('is refused where it, or another one, is not what it says', async () => {
    await using model = await stored()
    const { manifest } = model
    const { block, layer } = manifest.guessing!
    const { joins: _, ...plain } = block
    const refused = (changed: Manifest, message: RegExp) =>
      expect(() => parseManifest(serializeManifest(changed))).toThrow(message)
    const withGuessing = (guessing: NonNullable<Manifest['guessing']>): Manifest => ({
      ...manifest,
      guessing
    })
    refused(withGuessing({ block: plain, layer }), /guessing: the layer does not join states/)
    refused(
      withGuessing({ block, layer: { ...layer, kind: 'head' } }),
      /guessing: the layer does not join states/
    )
    refused(withGuessing({ block, layer: manifest.layers[1]! }), /guessing: tensor token_norm is missing/)
    const wide = { ...block, attention: { ...block.attention, window: manifest.shape.contextLength } }
    refused(withGuessing({ block: wide, layer }), /guessing: the block is not in its shortest form/)
    const huge = { ...block, attention: { ...block.attention, heads: 1024, headSize: 1024 } }
    refused(withGuessing({ block: huge, layer }), /guessing: sizes multiply/)
    // What no other model gives its states to.
    refused({ ...manifest, shape: { ...manifest.shape, blocks: [block] } }, /joins what none gives it/)
    refused(guessingManifest(manifest)!, /joins what none gives it/)
  })

  it('has its file kept, checked and removed with the model', async () => {
    await using model = await stored()
    const { manifest, store } = model
    const { sha256 } = manifest.guessing!.layer
    const [named] = await store.list()
    await store.verify(named!, {})
    const path = store.blobPath(sha256)
    const file = await readFile(path)
    file[100]! ^= 1
    await writeFile(path, file)
    await expect(store.verify(named!, {})).rejects.toThrow(/model guessing, the layer that guesses/)
    await storeGuessingModel(store.dir, 'other', { decoderLayers: 1 })
    await store.remove('other')
    expect(await readdir(store.blobsDir)).toContain(sha256)
    await store.remove('guessing')
    expect(await readdir(store.blobsDir)).toEqual([])
  })
})

it('of a GGUF file is that behind its last one, with the tensors that llama.cpp calls nextn', async () => {
  await using folder = await temporaryFolder()
  const { tensors, metadata } = deepseekGguf()
  for (const [name, tensor] of [...tensors]) {
    if (name.startsWith('blk.0.')) tensors.set(name.replace('blk.0.', 'blk.1.'), tensor)
  }
  const add = (name: string, ...dims: number[]) => {
    const bytes = new Uint8Array(4 * dims.reduce((product, n) => product * n, 1))
    tensors.set(`blk.1.nextn.${name}.weight`, { type: 'F32', dims, bytes })
  }
  add('eh_proj', 64, 128)
  for (const norm of ['enorm', 'hnorm', 'shared_head_norm']) add(norm, 64)
  const counts = { 'deepseek2.block_count': 2, 'deepseek2.nextn_predict_layers': 1 }
  const path = join(folder.path, 'model.gguf')
  await writeGguf(path, { tensors, metadata: { ...metadata, ...counts } })
  const checkpoint = await ggufCheckpoint(await GgufFile.open(path))
  const { block, layer } = planGuessing(checkpoint, planOptions(checkpoint))
  // What is said of the model's size has the layer in it.
  const takes = async (mtp: boolean) => {
    const notices: string[] = []
    await chooseRounding(checkpoint, { quantize: 'q8', mtp, onNotice: notice => notices.push(notice) })
    return Number(/the store takes ([\d.]+) MB/.exec(notices[0]!)![1])
  }
  const rounded = planGuessing(checkpoint, planOptions(checkpoint, { quantize: 'q8' })).layer
  expect(rounded.bytes).toBeGreaterThan(50_000)
  expect(Math.abs((await takes(true)) - (await takes(false)) - rounded.bytes / 1e6)).toBeLessThan(0.011)
  await checkpoint.source.close()
  expect([block.joins, block.attention.kind, block.feedForward.kind]).toEqual([
    'token-first',
    'latent',
    'experts'
  ])
  const parts = (name: string) =>
    layer.tensors.find(({ tensor }) => tensor.name === name)!.parts.map(part => part.name)
  expect(parts('join')).toEqual(['blk.1.nextn.eh_proj.weight'])
  expect(parts('guess_norm')).toEqual(['blk.1.nextn.shared_head_norm.weight'])
  expect(parts('latent')).toEqual(['blk.1.attn_kv_a_mqa.weight'])
})

describe('a step of the layer', () => {
  let runtime: Runtime
  beforeAll(async () => {
    runtime = await startRuntime({ threads: 1 })
  })
  afterAll(() => runtime.stop())

  it('is refused without as many states, and comes to the same wherever the three are cut', async () => {
    await using model = await stored()
    const { store } = model
    const { blobsDir } = store
    const manifest = guessingManifest(model.manifest)!
    const { hiddenSize } = manifest.shape
    const previous = Float32Array.from({ length: 3 * hiddenSize }, (_, i) => Math.sin(i))
    const step = { position: 0, input: Int32Array.of(5, 6, 7), sample: true, previous }
    const sampling = { temperature: 0, topP: 1, seed: 0, topLogprobs: 3 }
    const opened = async (range: [number, number]) =>
      await (await runtime.load({ manifest, range, blobsDir })).open({ maxTokens: 8, sampling, states: true })
    const whole = await opened([0, 3])
    for (const wrong of [undefined, previous.subarray(hiddenSize)]) {
      await expect(whole.forward({ ...step, previous: wrong })).rejects.toThrow(
        /has not the states that its layers join/
      )
    }
    const batch = await (await runtime.load({ manifest, range: [0, 3], blobsDir })).openBatch({
      slots: 1,
      maxTokens: 8
    })
    // What a session is to join comes with its own steps only: no other can be tried.
    const shared = await batch.open({ sampling, exact: true })
    expect(shared.exact).toBe(false)
    const parts = [{ position: 0, tokens: 3, draws: 1 }]
    await expect(batch.step([shared], { parts, input: step.input })).rejects.toThrow(/layers join states/)
    const { computeMs: _, ...expected } = await whole.forward(step)
    expect(expected).toMatchObject({ kind: 'token', states: { length: 3 * hiddenSize } })
    const first = await opened([0, 2])
    const hidden = await first.forward(step)
    if (hidden.kind !== 'hidden') throw new Error(`got ${hidden.kind}`)
    const last = await opened([2, 3])
    const { computeMs: __, ...cut } = await last.forward({ ...step, input: hidden.hidden })
    expect(cut).toEqual(expected)
  })
})
