import { afterAll, beforeAll, expect, test } from 'vitest'
import { LLAMA_BLOCK } from '../../models/import/architectures/architecture.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime, ShardBatch, ShardSession } from '../../models/runtime/runtime.ts'
import { type RandomModelOptions, randomModel, STATEFUL } from '../fixtures/random-model.ts'
import { GREEDY } from '../fixtures/shards.ts'

const TOKENS = 144
const STEP = 16
/** More than a layer with the window keeps. */
const MAX_TOKENS = 512
const textOf = (seed: number) => Array.from({ length: 2 * TOKENS }, (_, i) => (i * 37 + seed * 11 + 5) % 160)
const WINDOW = 7
/** Tokens that a layer with the window has dropped when the last step of TOKENS begins. */
const DROPPED = 32
/** A window that has dropped tokens by then, and layers without. */
const WINDOWED: RandomModelOptions = {
  shape: {
    blocks: [WINDOW, undefined, undefined].map(window => ({
      ...LLAMA_BLOCK,
      attention: { ...LLAMA_BLOCK.attention, ...(window !== undefined && { window }) }
    })),
    layout: [0, 1, 2]
  }
}

let whole: Runtime
let parted: Runtime
beforeAll(async () => {
  whole = await startRuntime({ threads: 1 })
  parted = await startRuntime({ threads: 1, partBytes: 1 })
})
afterAll(() => Promise.all([whole.stop(), parted.stop()]))

/** What is drawn behind tokens [from, to), which go in by steps. */
async function feed(session: ShardSession, text: readonly number[], from: number, to: number) {
  let drawn: unknown
  for (let position = from; position < to; position += STEP) {
    const input = Int32Array.from(text.slice(position, Math.min(to, position + STEP)))
    const output = await session.forward({ position, input, sample: true })
    drawn = output.kind === 'token' ? output.token : undefined
  }
  return drawn
}

async function batchOf(runtime: Runtime, options: RandomModelOptions) {
  const model = await randomModel({ ...options, shape: { contextLength: MAX_TOKENS, ...options.shape } })
  const { manifest, blobsDir } = model
  const shard = await runtime.load({ manifest, range: [0, manifest.layers.length], blobsDir })
  const batch = await shard.openBatch({ slots: 2, maxTokens: MAX_TOKENS, frameTokens: STEP })
  return {
    batch,
    async [Symbol.asyncDispose]() {
      await shard.release()
      await model[Symbol.asyncDispose]()
    }
  }
}

/** A sequence in slot 0 that is over, and one behind it whose opening has saved what that has of its first tokens. */
async function evicted(batch: ShardBatch, saveTokens = TOKENS) {
  const first = await batch.open({ sampling: GREEDY, slot: 0 })
  await feed(first, textOf(1), 0, TOKENS)
  await first.close()
  const second = await batch.open({ sampling: GREEDY, slot: 0, saveTokens })
  await feed(second, textOf(2), 0, TOKENS)
  return second
}

test.each([
  ['in one thread', () => whole, {}],
  ['in parts', () => parted, {}],
  ['with a window', () => whole, WINDOWED],
  ['4 bits', () => whole, { quantization: { bits: 4, blockSize: 32 } }]
] as [string, () => Runtime, RandomModelOptions][])(
  'what a slot had is put into another one to the bit: %s',
  async (_, runtime, options) => {
    await using of = await batchOf(runtime(), options)
    const { batch } = of
    const { saved } = await evicted(batch)
    expect(saved?.tokens).toBe(TOKENS)
    if (options === WINDOWED) expect(saved?.parts.map(({ firsts }) => firsts)).toEqual([[DROPPED]])
    const plain = await batch.open({ sampling: GREEDY, slot: 1 })
    const expected = await feed(plain, textOf(1), 0, 2 * TOKENS)
    await plain.close()
    for (const keepTokens of [TOKENS, TOKENS - STEP]) {
      const back = await batch.open({ sampling: GREEDY, slot: 1, restore: saved, keepTokens })
      expect(await feed(back, textOf(1), keepTokens, 2 * TOKENS)).toEqual(expected)
      await back.close()
    }
    await expect(
      batch.open({ sampling: GREEDY, slot: 1, restore: saved, keepTokens: TOKENS + 1 })
    ).rejects.toThrow(`what was saved has ${TOKENS} tokens`)
  }
)

test('nothing is saved of states, nor of more tokens than there are', async () => {
  {
    await using of = await batchOf(whole, { shape: STATEFUL })
    expect((await evicted(of.batch)).saved).toBeUndefined()
  }
  await using of = await batchOf(whole, {})
  const second = await evicted(of.batch)
  await second.close()
  const third = await of.batch.open({ sampling: GREEDY, slot: 0, saveTokens: TOKENS + 1 })
  expect(third.saved).toBeUndefined()
})

test('nothing is saved where a window has dropped what goes on behind it would need, and the slot is opened', async () => {
  await using of = await batchOf(whole, WINDOWED)
  const saved: (number | undefined)[] = []
  for (const tokens of [0, DROPPED - 12, DROPPED + WINDOW - 2, DROPPED + WINDOW - 1]) {
    const second = await evicted(of.batch, tokens)
    saved.push(second.saved?.tokens)
    await second.close()
  }
  expect(saved).toEqual([undefined, undefined, undefined, DROPPED + WINDOW - 1])
})

test('nothing is saved of a slot that is not named', async () => {
  await using of = await batchOf(whole, {})
  const first = await of.batch.open({ sampling: GREEDY })
  await feed(first, textOf(1), 0, STEP)
  await first.close()
  expect((await of.batch.open({ sampling: GREEDY, saveTokens: STEP })).saved).toBeUndefined()
})
