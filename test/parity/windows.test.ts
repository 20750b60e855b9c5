import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { LLAMA_BLOCK } from '../../models/import/architectures/architecture.ts'
import type { ModelShape } from '../../models/manifest.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime, SampledToken, Shard, ShardBatch, ShardSession } from '../../models/runtime/runtime.ts'
import { prng } from '../fixtures/prng.ts'
import { type RandomModel, randomModel } from '../fixtures/random-model.ts'

/** Windows of two sizes, and a layer without. */
const WINDOWED: Partial<ModelShape> = {
  contextLength: 1024,
  blocks: [7, 20, undefined].map(window => ({
    ...LLAMA_BLOCK,
    attention: { ...LLAMA_BLOCK.attention, ...(window !== undefined && { window }) }
  })),
  layout: [0, 1, 2]
}
const MAX_TOKENS = 700
const FRAME_TOKENS = 16
/** Float32, added in other orders. */
const TOLERANCE = 1e-4

let runtime: Runtime
let model: RandomModel
let shard: Shard
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
  model = await randomModel({ shape: WINDOWED })
  const { manifest, blobsDir } = model
  shard = await runtime.load({ manifest, range: [0, manifest.layers.length], blobsDir, lanes: 4 })
})
afterAll(async () => {
  await runtime.stop()
  await model[Symbol.asyncDispose]()
})

const sampling = { temperature: 0, topP: 1, seed: 0, topLogprobs: 4 }
const batchOf = (slots: number, frameTokens?: number): Promise<ShardBatch> =>
  shard.openBatch({ slots, maxTokens: MAX_TOKENS, ...(frameTokens !== undefined && { frameTokens }) })

/** What is drawn behind tokens [from, to) of a text, fed in steps of `size` tokens. */
async function feed(
  batch: ShardBatch,
  session: ShardSession,
  text: readonly number[],
  { from = 0, to = text.length, size = FRAME_TOKENS }: { from?: number; to?: number; size?: number } = {}
): Promise<SampledToken> {
  let drawn: SampledToken | undefined
  for (let position = from; position < to; position += size) {
    const ids = text.slice(position, Math.min(to, position + size))
    const part = { position, tokens: ids.length, draws: 1 }
    const output = await batch.step([session], { parts: [part], input: Int32Array.from(ids) })
    if (output.kind === 'drawn') drawn = output.drawn[0]![0]
  }
  return drawn!
}

function textOf(seed: number, length = 640): number[] {
  const random = prng(seed)
  return Array.from({ length }, () => Math.floor(random() * 160))
}

function expectNear(token: SampledToken, expected: SampledToken): void {
  expect(token.id).toBe(expected.id)
  token.top.forEach(({ id, logprob }, i) => {
    expect(id).toBe(expected.top[i]!.id)
    expect(Math.abs(logprob - expected.top[i]!.logprob)).toBeLessThan(TOLERANCE)
  })
}

describe('layers with a window that keep no more than it needs', () => {
  it('draw what they draw with all tokens, wherever a sequence is', async () => {
    const [whole, small] = [await batchOf(1), await batchOf(1, FRAME_TOKENS)]
    const [a, b] = [await whole.open({ sampling }), await small.open({ sampling })]
    const text = textOf(1)
    for (const end of [1, 20, 100, 116, 117, 118, 300, 389, 390, 391, 640]) {
      const from = end < 20 ? 0 : [1, 20, 100, 116, 117, 118, 300, 389, 390, 391].findLast(at => at < end)!
      expectNear(await feed(small, b, text, { from, to: end }), await feed(whole, a, text, { from, to: end }))
    }
    await Promise.all([whole.close(), small.close()])
  })

  it('have, exact, the same bits however a sequence is cut into steps, and beside others', async () => {
    const batch = await batchOf(3, FRAME_TOKENS)
    const text = textOf(2)
    const exact = { sampling, exact: true }
    const one = await batch.open({ ...exact, slot: 0 })
    expect(one.exact).toBe(true)
    const [other, beside] = [await batch.open({ ...exact, slot: 2 }), await batch.open({ ...exact, slot: 1 })]
    const expected = [await feed(batch, one, text, { to: 600 }), await feed(batch, one, text, { from: 600 })]
    await feed(batch, beside, textOf(3), { to: 590, size: 11 })
    const drawn = [await feed(batch, other, text, { to: 600, size: 3 })]
    // One of three slots stands still: what is computed for it goes behind its last token.
    for (let position = 600; position < text.length; position++) {
      const step = { parts: [{ position, tokens: 1, draws: 1 }], input: Int32Array.of(text[position]!) }
      const output = await batch.step([other], step)
      if (output.kind === 'drawn' && position === text.length - 1) drawn.push(output.drawn[0]![0]!)
    }
    expect(drawn).toEqual(expected)
    const alone = await batchOf(1, FRAME_TOKENS)
    const same = await alone.open(exact)
    const rest = await feed(alone, same, textOf(3), { size: 7 })
    expect(await feed(batch, beside, textOf(3), { from: 590, size: 5 })).toEqual(rest)
    await Promise.all([batch.close(), alone.close()])
  })

  it('go back a little, to the start, and to nowhere else', async () => {
    const [whole, small] = [await batchOf(1), await batchOf(2, FRAME_TOKENS)]
    const text = textOf(4)
    const changed = [...text.slice(0, 600), ...textOf(5, 40)]
    const expected = await feed(whole, await whole.open({ sampling }), changed)
    const session = await small.open({ sampling, slot: 0 })
    await feed(small, session, text)
    expectNear(await feed(small, session, changed, { from: 600 }), expected)
    const dropped = /cannot go on at token 300: layers with a window of (7|20) have dropped those before \d+/
    await expect(feed(small, session, text, { from: 300, to: 301 })).rejects.toThrow(dropped)
    await expect(session.trim(300)).rejects.toThrow(dropped)
    await expect(small.open({ sampling, slot: 1, keepTokens: 300, copyFrom: 0 })).rejects.toThrow(dropped)
    const copy = await small.open({ sampling, slot: 1, keepTokens: 600, copyFrom: 0 })
    expectNear(await feed(small, copy, changed, { from: 600 }), expected)
    await session.close()
    await expect(small.open({ sampling, slot: 0, keepTokens: 300 })).rejects.toThrow(dropped)
    const kept = await small.open({ sampling, slot: 0, keepTokens: 600 })
    expectNear(await feed(small, kept, changed, { from: 600 }), expected)
    expectNear(await feed(small, kept, changed, { size: 5 }), expected)
    await kept.trim(0)
    // Beside one that has just begun again.
    expectNear(await feed(small, copy, changed, { from: 600 }), expected)
    expectNear(await feed(small, kept, changed), expected)
    await Promise.all([whole.close(), small.close()])
  })

  it('take no step that is longer than they were told', async () => {
    const batch = await batchOf(1, FRAME_TOKENS)
    const session = await batch.open({ sampling })
    await expect(feed(batch, session, textOf(6), { size: FRAME_TOKENS + 1 })).rejects.toThrow(
      /a step has 17 tokens, but layers with a window have room for 16/
    )
    await batch.close()
  })
})
