import { afterAll, beforeAll, expect, it } from 'vitest'
import { startRuntime } from '../../models/runtime/client.ts'
import { NotFiniteError, RuntimeInputError } from '../../models/runtime/errors.ts'
import { allocateHidden } from '../../models/runtime/hidden.ts'
import type { Runtime, SampledToken, Shard, ShardSession } from '../../models/runtime/runtime.ts'
import { CONVOLVED, type RandomModel, randomModel, STATEFUL } from '../fixtures/random-model.ts'
import { GREEDY } from '../fixtures/shards.ts'

/** In which steps tokens go in decides in which order products add. */
const TOLERANCE = 1e-4

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

/** So many tokens of a text of its own. */
const text = (seed: number, count: number) =>
  Array.from({ length: count }, (_, i) => (seed * 31 + i * 37) % 160)

async function load(model: RandomModel, lanes = 1): Promise<Shard> {
  const { manifest, blobsDir } = model
  return await runtime.load({ manifest, blobsDir, lanes, range: [0, manifest.layers.length] })
}

/** Feeds tokens in steps of such sizes from `position` on; what is drawn behind the last one. */
async function feed(
  session: ShardSession,
  tokens: readonly number[],
  steps: readonly number[],
  position = 0
): Promise<SampledToken> {
  let at = position
  for (const size of steps) {
    const input = Int32Array.from(tokens.slice(at, at + size))
    const output = await session.forward({ position: at, input, sample: true })
    at += size
    if (at === position + steps.reduce((sum, n) => sum + n, 0) && output.kind === 'token') return output.token
  }
  throw new Error('no token was drawn')
}

/** What a session that has computed nothing else draws behind these tokens. */
async function fresh(shard: Shard, tokens: readonly number[]): Promise<SampledToken> {
  const session = await shard.open({ maxTokens: 64, sampling: GREEDY })
  const drawn = await feed(session, tokens, [tokens.length])
  await session.close()
  return drawn
}

function expectAlike(token: SampledToken, expected: SampledToken): void {
  for (const { id, logprob } of expected.top) {
    const own = token.top.find(each => each.id === id)
    if (own !== undefined) expect(Math.abs(own.logprob - logprob)).toBeLessThan(TOLERANCE)
  }
  expect(token.top[0]!.logprob).toBeCloseTo(expected.top[0]!.logprob, 3)
}

/** A prompt in two chunks, and an answer of five tokens: kept are the states of 20, 36 and 41. */
const STEPS = [20, 16, 1, 1, 1, 1, 1]

it.each([['of two kinds', STATEFUL] as const, ['of short convolutions', CONVOLVED] as const])(
  'the next turn goes on from states that were kept, %s, and from no other place',
  async (_, shape) => {
    await using model = await randomModel({ shape })
    const shard = await load(model)
    const batch = await shard.openBatch({ slots: 2, maxTokens: 64 })
    for (const keepTokens of [41, 36, 20, 0]) {
      const turn = await batch.open({ slot: 1, sampling: GREEDY })
      await feed(turn, text(1, 41), STEPS)
      await turn.close()
      // Between both turns another conversation goes through the other slot.
      const other = await batch.open({ slot: 0, sampling: GREEDY })
      await feed(other, text(2, 9), [7, 1, 1])
      await other.close()
      const next = [...text(1, keepTokens), ...text(3, 12)]
      const going = await batch.open({ slot: 1, keepTokens, sampling: GREEDY })
      expectAlike(await feed(going, next, [11, 1], keepTokens), await fresh(shard, next))
      await going.close()
    }
    const turn = await batch.open({ slot: 1, sampling: GREEDY })
    await feed(turn, text(1, 41), STEPS)
    await turn.close()
    await expect(batch.open({ slot: 1, keepTokens: 30, sampling: GREEDY })).rejects.toThrow(
      /slot 1 has no state of its first 30 tokens, but of its first 20 and 36 and 41/
    )
    await expect(batch.open({ slot: 0, keepTokens: 20, copyFrom: 1, sampling: GREEDY })).rejects.toThrow(
      /not copied from slot to slot/
    )
    await shard.release()
  }
)

it('a session is trimmed to what was kept, and what is kept behind that is forgotten', async () => {
  await using model = await randomModel({ shape: STATEFUL })
  const shard = await load(model)
  const session = await shard.open({ maxTokens: 64, sampling: GREEDY })
  await feed(session, text(1, 41), STEPS)
  await expect(session.trim(40)).rejects.toThrow(RuntimeInputError)
  await session.trim(20)
  const other = [...text(1, 20), ...text(4, 10)]
  expectAlike(await feed(session, other, [10], 20), await fresh(shard, other))
  // 36 was of the other text.
  await feed(session, [...other, ...text(5, 10)], [10], 30)
  await expect(session.trim(36)).rejects.toThrow(/but of its first 30 and 40/)
  await session.trim(0)
  expectAlike(await feed(session, text(6, 8), [8]), await fresh(shard, text(6, 8)))
  await shard.release()
})

it.each([1, 4])('sequences that share a step leave each other as they are, with %d lanes', async lanes => {
  await using model = await randomModel({ shape: STATEFUL })
  const shard = await load(model, lanes)
  const batch = await shard.openBatch({ slots: 5, maxTokens: 64 })
  // The third is left out of every step between: its state must not move.
  const texts = [0, 1, 2, 3, 4].map(i => text(i + 1, 12 + i))
  const sessions = await Promise.all(texts.map(() => batch.open({ sampling: GREEDY })))
  const positions = [6, 7, 8, 9, 10]
  for (const [i, session] of sessions.entries()) await feed(session, texts[i]!, [positions[i]!])
  const step = async (taking: readonly number[], sizes: readonly number[]) => {
    const parts = taking.map((i, at) => ({ position: positions[i]!, tokens: sizes[at]!, draws: 1 }))
    const input = Int32Array.from(
      taking.flatMap((i, at) => texts[i]!.slice(positions[i]!, positions[i]! + sizes[at]!))
    )
    const output = await batch.step(
      taking.map(i => sessions[i]!),
      { parts, input }
    )
    taking.forEach((i, at) => {
      positions[i]! += sizes[at]!
    })
    if (output.kind !== 'drawn') throw new Error('nothing was drawn')
    return output.drawn.map(([token]) => token!)
  }
  for (const [taking, sizes] of [
    [
      [0, 1, 3],
      [1, 1, 1]
    ],
    [
      [4, 0, 1],
      [3, 2, 1]
    ],
    [
      [0, 1, 3, 4],
      [1, 1, 1, 1]
    ],
    [
      [0, 1, 2, 3, 4],
      [1, 1, 1, 2, 1]
    ],
    [
      [2, 4],
      [1, 1]
    ]
  ] as const) {
    const drawn = await step(taking, sizes)
    for (const [at, i] of taking.entries()) {
      expectAlike(drawn[at]!, await fresh(shard, texts[i]!.slice(0, positions[i])))
    }
  }
  await shard.release()
})

it('exactness is not promised: a row for nobody would change a state', async () => {
  await using model = await randomModel({ shape: STATEFUL })
  const shard = await load(model, 2)
  const batch = await shard.openBatch({ slots: 1, maxTokens: 64 })
  const session = await batch.open({ sampling: GREEDY, exact: true })
  expect(session.exact).toBe(false)
  expectAlike(await feed(session, text(1, 9), [7, 1, 1]), await fresh(shard, text(1, 9)))
  await shard.release()
})

it('a step that fails loses the state that it was changing, and not those that were kept', async () => {
  await using model = await randomModel({ shape: STATEFUL })
  const { manifest, blobsDir } = model
  const { hiddenSize } = manifest.shape
  const shard = await runtime.load({ manifest, blobsDir, range: [1, manifest.layers.length] })
  const rows = (count: number, value = 0.5) => {
    const hidden = allocateHidden(count, hiddenSize)
    hidden.data.forEach((_, i) => {
      hidden.data[i] = value * Math.sin(i)
    })
    return hidden
  }
  const batch = await shard.openBatch({ slots: 1, maxTokens: 64 })
  const session = await batch.open({ sampling: GREEDY })
  await session.forward({ position: 0, input: rows(8), sample: false })
  await session.forward({ position: 8, input: rows(4), sample: false })
  const damaged = { position: 12, input: rows(3, Number.NaN), sample: true }
  await expect(session.forward(damaged)).rejects.toThrow(NotFiniteError)
  await expect(session.forward({ position: 12, input: rows(1), sample: true })).rejects.toThrow(
    /was lost in a step that failed/
  )
  await session.close()
  const next = await batch.open({ keepTokens: 12, sampling: GREEDY })
  const drawn = await next.forward({ position: 12, input: rows(1), sample: true })
  const other = await shard.open({ maxTokens: 64, sampling: GREEDY })
  for (const [position, count] of [
    [0, 8],
    [8, 4]
  ] as const) {
    await other.forward({ position, input: rows(count), sample: false })
  }
  const expected = await other.forward({ position: 12, input: rows(1), sample: true })
  expect(drawn).toMatchObject({ token: (expected as { token: SampledToken }).token })
  await shard.release()
})
