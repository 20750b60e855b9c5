import { describe, expect, test } from 'vitest'
import { NotFiniteError } from '../../../models/runtime/errors.ts'
import type { DecodeInput, ForwardInput, SampledToken, ShardBatch } from '../../../models/runtime/runtime.ts'
import { StageInputError } from '../../../node/stage/errors.ts'
import { Stage, type Step, type StepResult } from '../../../node/stage/stage.ts'
import { Turns } from '../../../node/stage/turns.ts'

const WIDTH = 2
const PROMPT = 3
const token = (id: number): SampledToken => ({ id, logprob: 0, top: [] })
const hidden = (...values: number[]) => {
  const data = new Float32Array(new SharedArrayBuffer(values.length * WIDTH * 4))
  data.set(values.flatMap(value => Array(WIDTH).fill(value)))
  return { tokens: values.length, data }
}
const step = (ids: string[], position = PROMPT, tokens = ids.length): Step => ({
  rows: ids.map(sessionId => ({ sessionId, position })),
  tokens,
  sample: true,
  timings: []
})

/** A head that draws what a row holds; of a negative row its logits are not finite. */
class FakeBatch {
  readonly runs: (ForwardInput | DecodeInput)[] = []
  readonly trims: number[] = []
  closed = 0

  open = async () => ({
    forward: async (input: ForwardInput) => {
      this.runs.push(input)
      const [drawn] = this.#draw(input.input)
      if (drawn === undefined) throw new NotFiniteError('the logits are not finite')
      return { kind: 'token' as const, token: drawn, computeMs: 1 }
    },
    trim: async (length: number) => void this.trims.push(length),
    close: async () => void this.closed++
  })
  decode = async (_: unknown, input: DecodeInput) => {
    this.runs.push(input)
    return { kind: 'tokens' as const, tokens: this.#draw(input.input), computeMs: 1 }
  }
  close = async () => {}

  #draw(input: ForwardInput['input']): (SampledToken | undefined)[] {
    if (input instanceof Int32Array) throw new Error('the head takes hidden states')
    return Array.from({ length: input.tokens }, (_, i) => {
      const id = input.data[i * WIDTH]!
      return id < 0 ? undefined : token(id)
    })
  }
}

interface OpenedOptions {
  withholdTokens?: number
  keepTokens?: number
  onDelivered?: () => Promise<void>
}

async function opened(...ids: string[]) {
  return await openedWith({}, ids)
}

/** @param withholdTokens of every session */
async function openedWith(
  { withholdTokens = 0, keepTokens = PROMPT, onDelivered = async () => {} }: OpenedOptions,
  ids: string[]
) {
  const batch = new FakeBatch()
  const delivered: { ids: string[]; tokens: number; result: StepResult }[] = []
  const failed: string[] = []
  const stage = new Stage({
    batch: batch as unknown as ShardBatch,
    turns: new Turns(),
    tenant: 'source',
    hiddenSize: WIDTH,
    maxTokens: 16,
    frameTokens: 14,
    deliver: async (result, { rows, tokens }) => {
      delivered.push({ ids: rows.map(({ sessionId }) => sessionId), tokens, result })
      await onDelivered()
    },
    onRowsFailed: (rows, { name }) => void failed.push(...rows.map(row => `${row.sessionId}: ${name}`))
  })
  for (const [slot, id] of ids.entries()) await stage.open(id, { slot, keepTokens, withholdTokens })
  return { stage, batch, delivered, failed }
}

test('one whose hidden states are not finite drops out of its step, and is closed', async () => {
  const { stage, batch, delivered, failed } = await opened('a', 'b', 'c')
  await stage.run(hidden(1, Number.NaN, 3), step(['a', 'b', 'c']))
  expect(delivered).toEqual([
    { ids: ['a', 'c'], tokens: 2, result: expect.objectContaining({ tokens: [token(1), token(3)] }) }
  ])
  expect(failed).toEqual(['b: NotFiniteError'])
  expect(stage.sessions).toEqual(['a', 'c'])
  expect(batch.closed).toBe(1)
})

test('one whose logits are not finite drops out of its step, and is closed', async () => {
  const { stage, delivered, failed } = await opened('a', 'b', 'c')
  await stage.run(hidden(1, 2, -3), step(['a', 'b', 'c']))
  expect(delivered).toMatchObject([{ ids: ['a', 'b'], tokens: 2, result: { tokens: [token(1), token(2)] } }])
  expect(failed).toEqual(['c: NotFiniteError'])
  // The others go on where they are.
  await stage.run(hidden(5, 6), step(['a', 'b'], PROMPT + 1))
  expect(delivered[1]).toMatchObject({ ids: ['a', 'b'], tokens: 2 })
})

test.each([
  ['its own hidden states', hidden(Infinity)],
  ['its logits', hidden(-1)]
])('a step of one session that fails by %s is nobody else’s failure', async (_, input) => {
  const { stage, batch, delivered, failed } = await opened('a', 'b')
  // What waits behind it already finds it closed.
  await Promise.all([
    stage.run(input, step(['a'])),
    stage.run(hidden(1), step(['a'], PROMPT + 1)).catch(() => {})
  ])
  expect([delivered, failed]).toEqual([[], ['a: NotFiniteError']])
  expect(stage.sessions).toEqual(['b'])
  expect(batch.runs.length).toBeLessThan(2)
})

test('hidden states that are not finite for any session of several are the sender’s failure', async () => {
  const { stage, failed } = await opened('a', 'b')
  expect(() => stage.run(hidden(Number.NaN, Infinity), step(['a', 'b']))).toThrow(StageInputError)
  expect(failed).toEqual([])
})

test('a step that does not start where its session is, or goes past its room, is refused', async () => {
  const { stage } = await opened('a')
  expect(() => stage.run(hidden(1), step(['a'], PROMPT + 1))).toThrow('starts at token 4')
  expect(() => stage.run(hidden(...Array(14).fill(1)), step(['a'], PROMPT, 14))).toThrow('exceed')
  expect(() => stage.run(hidden(1, 1), step(['a', 'a']))).toThrow('twice')
  expect(() => stage.memoryFor({ ...step(['a']), hiddenSize: WIDTH + 1 })).toThrow('wide')
})

test('a step of more tokens of a session than the lease is for gets no memory and is not computed', async () => {
  const { stage, batch } = await opened('a', 'b')
  const large = { ...step(['a'], PROMPT, 15), hiddenSize: WIDTH }
  expect(() => stage.memoryFor(large)).toThrow('15 tokens of a session, the lease is for 14')
  expect(() => stage.run(hidden(...Array(15).fill(1)), large)).toThrow(StageInputError)
  await stage.run(hidden(1, 2), step(['a', 'b']))
  expect(batch.runs.length).toBe(1)
})

test('a session that is closed while it waits drops out of its step', async () => {
  const { stage, delivered, failed } = await opened('a', 'b', 'c')
  const first = stage.run(hidden(1), step(['c']))
  const second = stage.run(hidden(1, 2), step(['a', 'b']))
  await Promise.all([stage.closeSession('a'), first, second])
  expect(delivered[1]).toMatchObject({ ids: ['b'], tokens: 1 })
  expect(failed).toEqual([])
})

test('of tokens that the stages behind have already nothing is handed on', async () => {
  const { stage, batch, delivered } = await openedWith({ keepTokens: 0, withholdTokens: 4 }, ['a'])
  await stage.run(hidden(1, 1, 1), step(['a'], 0, 3))
  await stage.run(hidden(2), step(['a'], 3))
  expect(batch.runs).toHaveLength(2)
  expect(delivered).toEqual([])
  await stage.run(hidden(3), step(['a'], 4))
  expect(delivered).toHaveLength(1)
})

test('after another neighbour took its place nothing waits for what is stuck on the way to the lost one', async () => {
  const { stage, delivered } = await openedWith({ onDelivered: () => new Promise(() => {}) }, ['a', 'b', 'c'])
  // The first one is never taken; the second one waits behind it, and its session is closed.
  void stage.run(hidden(1), step(['a']))
  void stage.run(hidden(2), step(['b']))
  await new Promise(resolve => setTimeout(resolve))
  expect(delivered.map(({ ids }) => ids)).toEqual([['a']])
  await stage.closeSession('b')
  stage.relinked()
  void stage.run(hidden(3), step(['c']))
  await new Promise(resolve => setTimeout(resolve))
  expect(delivered.map(({ ids }) => ids)).toEqual([['a'], ['c']])
})

describe('a session that feeds guesses', () => {
  const at = (position: number, epoch: number): Step => ({
    rows: [{ sessionId: 'a', position, epoch }],
    tokens: 1,
    sample: true,
    timings: []
  })
  const drawnBy = ({ delivered }: Awaited<ReturnType<typeof opened>>) =>
    delivered.map(({ result }) => result.kind === 'tokens' && result.tokens[0]!.id)

  test('goes back to where a guess was wrong, and forgets what is behind', async () => {
    const all = await opened('a')
    const { stage, batch } = all
    await stage.run(hidden(1), at(PROMPT, 1))
    await stage.run(hidden(2), at(PROMPT + 1, 1))
    await stage.run(hidden(3), at(PROMPT + 2, 1))
    await stage.run(hidden(4), at(PROMPT + 1, 2))
    expect(drawnBy(all)).toEqual([1, 2, 3, 4])
    expect(batch.trims).toEqual([PROMPT + 1])
    // Those of the epoch before may still come.
    await stage.run(hidden(5), at(PROMPT + 3, 1))
    await stage.run(hidden(6), at(PROMPT + 2, 2))
    expect(drawnBy(all)).toEqual([1, 2, 3, 4, 6])
    expect(batch.trims).toHaveLength(1)
  })

  test('has steps of an earlier epoch dropped that wait, and those that come', async () => {
    const all = await opened('a')
    const { stage, batch } = all
    const running = [stage.run(hidden(1), at(PROMPT, 1)), stage.run(hidden(2), at(PROMPT + 1, 1))]
    stage.dropBefore('a', 2)
    await Promise.all(running)
    await stage.run(hidden(3), at(PROMPT + 2, 1))
    // What had begun is in the cache, and its result nobody waits for.
    expect(drawnBy(all)).toEqual([])
    await stage.run(hidden(4), at(PROMPT, 2))
    expect(drawnBy(all)).toEqual([4])
    expect(batch.runs.length).toBeLessThan(4)
  })

  test('is refused a step that leaves a gap', async () => {
    const { stage } = await opened('a')
    expect(() => stage.run(hidden(1), at(PROMPT + 1, 1))).toThrow(StageInputError)
    expect(() => stage.run(hidden(1), at(PROMPT + 1, 7))).toThrow('the session is at 3')
  })

  test('is refused a step behind one that was dropped on its way', async () => {
    const { stage } = await opened('a')
    const running = [
      stage.run(hidden(1), at(PROMPT, 1)),
      stage.run(hidden(2), at(PROMPT + 1, 1)),
      stage.run(hidden(3), at(PROMPT + 2, 2))
    ]
    const [, , jumped] = await Promise.allSettled(running)
    expect(jumped).toMatchObject({ status: 'rejected', reason: expect.any(StageInputError) })
  })

  test('shares its next step at once: what is behind is forgotten by the step itself', async () => {
    const { stage, batch } = await opened('a', 'b')
    await stage.run(hidden(1), at(PROMPT, 1))
    await stage.run(hidden(2), at(PROMPT + 1, 1))
    const rows = [
      { sessionId: 'a', position: PROMPT + 1, epoch: 2 },
      { sessionId: 'b', position: PROMPT }
    ]
    await stage.run(hidden(3, 4), { rows, tokens: 2, sample: true, timings: [] })
    expect(batch.trims).toEqual([])
    expect(batch.runs.at(-1)).toMatchObject({ positions: [PROMPT + 1, PROMPT] })
  })

  test('says of each step that is under way what it took', async () => {
    const { stage } = await opened('a')
    await stage.run(hidden(1), at(PROMPT, 1))
    await stage.run(hidden(2), at(PROMPT + 1, 1))
    const timing = (position: number) => stage.timingOf({ sessionId: 'a', position })
    expect([timing(PROMPT), timing(PROMPT + 1), timing(PROMPT + 2)]).toEqual([
      expect.objectContaining({ computeMs: 1 }),
      expect.objectContaining({ computeMs: 1 }),
      undefined
    ])
  })
})
