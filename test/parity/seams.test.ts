import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ModelShape } from '../../models/manifest.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime, SampledToken, Shard, ShardBatch, ShardSession } from '../../models/runtime/runtime.ts'
import { prng } from '../fixtures/prng.ts'
import { type RandomModel, randomModel, STATEFUL } from '../fixtures/random-model.ts'
import { GREEDY } from '../fixtures/shards.ts'

const WINDOW = 6
const FRAME_TOKENS = 16
const MAX_TOKENS = 600
const [delta, , attending] = STATEFUL.blocks!
/** A layer with a state, and one that attends to a window. */
const BOTH: Partial<ModelShape> = {
  contextLength: 1024,
  blocks: [delta!, { ...attending!, attention: { ...attending!.attention, window: WINDOW } }],
  layout: [0, 1]
}
const WINDOWED: Partial<ModelShape> = { contextLength: 1024, blocks: [BOTH.blocks![1]!], layout: [0] }
/** Float32, added in other orders. */
const TOLERANCE = 1e-4

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

async function load({ manifest, blobsDir }: RandomModel, lanes = 1): Promise<Shard> {
  return await runtime.load({ manifest, blobsDir, lanes, range: [0, manifest.layers.length] })
}

function textOf(seed: number, length: number): number[] {
  const random = prng(seed)
  return Array.from({ length }, () => Math.floor(random() * 160))
}

/** What is drawn behind tokens [from, to) of a text, fed in steps of FRAME_TOKENS. */
async function feed(
  session: ShardSession,
  text: readonly number[],
  { from = 0, to = text.length }: { from?: number; to?: number } = {}
): Promise<SampledToken> {
  for (let position = from; position < to; position += FRAME_TOKENS) {
    const input = Int32Array.from(text.slice(position, Math.min(to, position + FRAME_TOKENS)))
    const output = await session.forward({ position, input, sample: true })
    if (output.kind === 'token' && position + input.length === to) return output.token
  }
  throw new Error('no token was drawn')
}

/** One token of each session, at the end of what it has. */
async function decode(batch: ShardBatch, sessions: ShardSession[], positions: number[], ids: number[]) {
  const output = await batch.decode(sessions, { positions, input: Int32Array.from(ids) })
  if (output.kind !== 'tokens') throw new Error('nothing was drawn')
  return output.tokens.map(token => token!)
}

function expectNear(token: SampledToken, expected: SampledToken): void {
  expect(token.id).toBe(expected.id)
  expect(Math.abs(token.logprob - expected.logprob)).toBeLessThan(TOLERANCE)
}

it('a slot that was taken back to its start stands still between others', async () => {
  await using model = await randomModel({ shape: WINDOWED })
  const shard = await load(model)
  const batch = await shard.openBatch({ slots: 3, maxTokens: MAX_TOKENS, frameTokens: FRAME_TOKENS })
  const texts = [1, 2, 3].map(seed => textOf(seed, 300))
  const sessions = await Promise.all(texts.map((_, slot) => batch.open({ slot, sampling: GREEDY })))
  for (const [i, session] of sessions.entries()) await feed(session, texts[i]!, { to: 299 })
  // Its layers have dropped tokens; what is computed for nobody goes to its first place again.
  await sessions[1]!.trim(0)
  const others = [sessions[0]!, sessions[2]!]
  const drawn = await decode(batch, others, [299, 299], [texts[0]!.at(-1)!, texts[2]!.at(-1)!])
  const alone = await shard.openBatch({ slots: 1, maxTokens: MAX_TOKENS, frameTokens: FRAME_TOKENS })
  for (const [token, text] of [
    [drawn[0]!, texts[0]!],
    [drawn[1]!, texts[2]!]
  ] as const) {
    const session = await alone.open({ sampling: GREEDY })
    expectNear(token, await feed(session, text))
    await session.close()
  }
  await shard.release()
})

describe('layers with a window beside layers with a state', () => {
  it('compute what they do with all tokens kept, in steps of several and with others', async () => {
    await using model = await randomModel({ shape: BOTH })
    const shard = await load(model, 4)
    const [whole, small] = await Promise.all([
      shard.openBatch({ slots: 2, maxTokens: MAX_TOKENS }),
      shard.openBatch({ slots: 2, maxTokens: MAX_TOKENS, frameTokens: FRAME_TOKENS })
    ])
    const texts = [textOf(4, 400), textOf(5, 500)]
    const [expected, drawn] = await Promise.all(
      [whole, small].map(async batch => {
        const sessions = await Promise.all(texts.map(() => batch.open({ sampling: GREEDY })))
        for (const [i, session] of sessions.entries()) {
          await feed(session, texts[i]!, { to: texts[i]!.length - 1 })
        }
        return await decode(
          batch,
          sessions,
          texts.map(text => text.length - 1),
          texts.map(text => text.at(-1)!)
        )
      })
    )
    for (const [i, token] of drawn!.entries()) expectNear(token, expected![i]!)
    await shard.release()
  })

  it('go on from a state that is kept, where the window has not dropped what it needs', async () => {
    await using model = await randomModel({ shape: BOTH })
    const shard = await load(model)
    const batch = await shard.openBatch({ slots: 1, maxTokens: MAX_TOKENS, frameTokens: FRAME_TOKENS })
    const text = textOf(6, 304)
    const session = await batch.open({ sampling: GREEDY })
    await feed(session, text)
    await session.close()
    // The state before the last step, which is 304 - 16.
    const next = [...text.slice(0, 288), ...textOf(7, 10)]
    const going = await batch.open({ sampling: GREEDY, keepTokens: 288 })
    const drawn = await feed(going, next, { from: 288 })
    const other = await shard.open({ sampling: GREEDY, maxTokens: MAX_TOKENS })
    expectNear(drawn, await feed(other, next))
    await expect(going.trim(100)).rejects.toThrow(
      /no state of its first 100 tokens|have dropped those before/
    )
    await going.trim(0)
    expectNear(await feed(going, next), drawn)
    await shard.release()
  })
})

it('a step that cannot begin for one session leaves the states of the others', async () => {
  await using model = await randomModel({ shape: STATEFUL })
  const shard = await load(model, 2)
  const batch = await shard.openBatch({ slots: 2, maxTokens: 64 })
  const sessions = [await batch.open({ sampling: GREEDY }), await batch.open({ sampling: GREEDY })]
  const texts = [textOf(8, 30), textOf(9, 30)]
  for (const [i, session] of sessions.entries()) await feed(session, texts[i]!, { to: 20 })
  // No state of 7 tokens is kept.
  const bad = decode(batch, sessions, [20, 7], [texts[0]![20]!, texts[1]![7]!])
  await expect(bad).rejects.toThrow(/slot 1 has no state of its first 7 tokens/)
  const drawn = await decode(batch, sessions, [20, 20], [texts[0]![20]!, texts[1]![20]!])
  for (const [i, token] of drawn.entries()) {
    const alone = await shard.open({ sampling: GREEDY, maxTokens: 64 })
    expectNear(token, await feed(alone, texts[i]!, { to: 21 }))
  }
  await shard.release()
})
