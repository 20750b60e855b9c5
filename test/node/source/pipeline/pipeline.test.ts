import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Strategy } from '../../../../node/api.ts'
import {
  OWN_STEP_DEADLINE_MS,
  STEP_DEADLINE_FACTOR,
  STEP_DEADLINE_FLOOR_MS
} from '../../../../node/constants.ts'
import type { PipelineStages } from '../../../../node/source/pipeline/pipeline-stages.ts'
import { MILESTONE_TOKENS, WINDOW_TOKENS } from '../../../../node/source/pipeline/prompt-progress.ts'
import type { SlowStage } from '../../../../node/source/pipeline/slowness.ts'
import type { Stage, Step } from '../../../../node/stage/stage.ts'
import { PeerLostError } from '../../../../protocols/errors.ts'
import type { StageTiming } from '../../../../protocols/stage/frame.ts'
import { drawn, errorFrame, pipelineOf } from './pipeline-fixture.ts'

const lostPeer = (peerId: string) => ({ name: 'StageLostError', peerId })

test('a session whose numbers are not finite ends alone; those that shared its step go on', async () => {
  const { pipeline, steps, open } = pipelineOf()
  const [bad, good] = [await open(), await open()]
  for (const step of [...steps]) pipeline.receive('c', drawn(step, 7))
  expect(await bad.next()).toMatchObject({ id: 7 })
  expect(await good.next()).toMatchObject({ id: 7 })
  // The first one is a step ahead.
  pipeline.receive('c', drawn(steps[2]!, 7))
  const together = steps.at(-1)!
  expect(together.rows).toHaveLength(2)
  expect(await bad.next()).toMatchObject({ id: 7 })
  const [failed, left] = together.rows.map(row => ({ ...together, rows: [row] }))
  pipeline.receive('b', errorFrame(failed!, 'not-finite', 'not finite'))
  await expect(bad.next()).rejects.toMatchObject({ name: 'NotFiniteError' })
  pipeline.receive('c', drawn(left!, 8))
  expect(await good.next()).toMatchObject({ id: 8 })
  expect(steps.at(-1)!.rows).toEqual([{ sessionId: left!.rows[0]!.sessionId, position: 4 }])
  expect(pipeline.failure).toBeUndefined()
})

test.each([
  ['stage', 'b', 'b'],
  ['next', 'b', 'c'],
  ['input', 'c', 'b']
] as const)('an error of code %s from %s is the loss of %s', async (code, from, blamed) => {
  const { pipeline, steps, open } = pipelineOf()
  const answer = await open()
  pipeline.receive(from, errorFrame(steps[0]!, code, 'it cannot go on'))
  await expect(answer.next()).rejects.toMatchObject(lostPeer(blamed))
})

test('what the second stage cannot use of this node’s own ends its sessions, and loses no peer', async () => {
  const { pipeline, steps, open } = pipelineOf()
  const [bad, good] = [await open(), await open()]
  pipeline.receive('b', errorFrame(steps[0]!, 'input', 'a step starts at token 3'))
  await expect(bad.next()).rejects.toMatchObject({ name: 'Error' })
  pipeline.receive('c', drawn(steps[1]!, 7))
  expect(await good.next()).toMatchObject({ id: 7 })
})

test('a stage that cannot compute one session after the other, without a token between, is lost itself', async () => {
  const { pipeline, steps, open } = pipelineOf()
  const refuse = async () => {
    const answer = await open()
    pipeline.receive('b', errorFrame(steps.at(-1)!, 'not-finite', 'not finite'))
    const error = await answer.next().catch((error: Error) => error)
    await answer.close()
    return error
  }
  expect(await refuse()).toMatchObject({ name: 'NotFiniteError' })
  expect(await refuse()).toMatchObject({ name: 'NotFiniteError' })
  // A token between: it was the sessions.
  const answer = await open()
  pipeline.receive('c', drawn(steps.at(-1)!, 7))
  await answer.close()
  expect(await refuse()).toMatchObject({ name: 'NotFiniteError' })
  expect(await refuse()).toMatchObject({ name: 'NotFiniteError' })
  expect(await refuse()).toMatchObject(lostPeer('b'))
})

const PREDICTED = { ttftMs: 1, tpotMs: 1, stages: [], linksMs: [] }
const substitute = { peerId: 'd', name: 'd', layers: [2, 4] as [number, number], weightBytes: 0 }

test('a repaired pipeline keeps what the stages behind the lost one have, and computes the rest again', async () => {
  const opened: { keepTokens: number; intactFrom: number }[] = []
  const { pipeline, stages, steps, open } = pipelineOf({ open: async session => void opened.push(session) })
  const [, tail] = [substitute, { ...substitute, peerId: 'c', name: 'c', layers: [4, 6] as [number, number] }]
  const answer = await open()
  for (const id of [7, 8]) {
    pipeline.receive('c', drawn(steps.at(-1)!, id))
    await answer.next()
  }
  pipeline.peerLost('b', 'the connection broke')
  await expect(answer.next()).rejects.toMatchObject(lostPeer('b'))
  await answer.close()
  await pipeline.closeAll()
  stages.remote = [substitute, tail]
  pipeline.resume({ at: 1, stages: 3, predicted: PREDICTED })
  const before = steps.length
  const again = await open({ known: [7, 8] })
  // Three of the prompt and the first token of the answer went through all stages.
  expect(opened.at(-1)).toMatchObject({ keepTokens: 4, intactFrom: 2 })
  await vi.waitUntil(() => steps.at(-1)!.sample)
  expect(
    steps.slice(before).map(({ rows, input, sample }) => [rows[0]!.position, [...input], sample])
  ).toEqual([
    [0, [1, 2, 3], false],
    [3, [7], false],
    [4, [8], true]
  ])
  pipeline.receive('c', drawn(steps.at(-1)!, 9))
  expect(await again.next()).toMatchObject({ id: 9 })
})

test('what comes of a step from before the repair fails nothing after it', async () => {
  const stuck = Promise.withResolvers<void>()
  let runs = 0
  const first = { run: () => (++runs === 1 ? stuck.promise : Promise.resolve()) } as unknown as Stage
  const { pipeline, stages, open } = pipelineOf({ first })
  const answer = await open()
  pipeline.peerLost('b', 'the connection broke')
  await answer.close()
  stages.remote = [substitute]
  pipeline.resume({ at: 1, stages: 2, predicted: PREDICTED })
  stuck.reject(new PeerLostError('b', 'the stream broke'))
  await new Promise(resolve => setTimeout(resolve))
  expect(pipeline.failure).toBeUndefined()
})

test('all are closed only when those are that were being closed already', async () => {
  const closed = Promise.withResolvers<void>()
  const { pipeline, open } = pipelineOf({ close: () => closed.promise })
  const answer = await open()
  void answer.close()
  let done = false
  const all = pipeline.closeAll().then(() => {
    done = true
  })
  await new Promise(resolve => setTimeout(resolve))
  expect([done, pipeline.active]).toEqual([false, 1])
  closed.resolve()
  await all
  expect(pipeline.active).toBe(0)
})

test('a token from a step that was not to draw one is the loss of who sent it', async () => {
  const { pipeline, steps, open } = pipelineOf()
  const answer = await open({ prompt: Array(40).fill(1) })
  expect(steps[0]).toMatchObject({ tokens: 32, sample: false })
  pipeline.receive('c', drawn(steps[0]!, 7))
  await expect(answer.next()).rejects.toMatchObject(lostPeer('c'))
})

describe('when no token has come by the deadline', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())
  const late = async (over: Parameters<typeof pipelineOf>[0]) => {
    const { open } = pipelineOf(over)
    const failure = (await open()).next().catch((error: Error) => error)
    await vi.advanceTimersByTimeAsync(STEP_DEADLINE_FLOOR_MS)
    return await failure
  }

  test('the peer is lost that is silent', async () => {
    const silent = [[], ['c']]
    expect(await late({ suspects: () => new Set(silent.shift()) })).toMatchObject(lostPeer('c'))
  })

  test('the stage is lost that does not end the session either', async () => {
    expect(await late({ unconfirmed: async () => new Set(['b']) })).toMatchObject(lostPeer('b'))
  })

  test('the last stage is lost where nothing else is known, and all are named', async () => {
    expect(await late({})).toMatchObject({
      ...lostPeer('c'),
      message: expect.stringMatching(/b \(b\).*c \(c\)/)
    })
  })

  test('a step of an answer that has begun is told apart from a prompt', async () => {
    const { pipeline, steps, open } = pipelineOf()
    const answer = await open()
    const prompt = (await open({ prompt: [9] })).next().catch((error: Error) => error.message)
    pipeline.receive('c', drawn(steps[0]!, 7))
    await answer.next()
    const step = answer.next().catch((error: Error) => error.message)
    await vi.advanceTimersByTimeAsync(STEP_DEADLINE_FLOOR_MS)
    // Whichever deadline passes first ends both.
    expect(await prompt).toContain('tokens 0 to 1 of the prompt were not through within 15 s')
    expect(await step).toBe(await prompt)
    const alone = pipelineOf()
    const begun = await alone.open()
    alone.pipeline.receive('c', drawn(alone.steps[0]!, 7))
    await begun.next()
    const late = begun.next().catch((error: Error) => error.message)
    await vi.advanceTimersByTimeAsync(STEP_DEADLINE_FLOOR_MS)
    expect(await late).toContain('no token within 15 s')
  })

  test('a step deep in its context has the time that attention takes', async () => {
    const { pipeline, steps, open } = pipelineOf()
    const predicted = {
      ttftMs: 1,
      tpotMs: STEP_DEADLINE_FLOOR_MS / STEP_DEADLINE_FACTOR,
      stages: [],
      linksMs: []
    }
    const answer = await open({ maxTokens: 60, prompt: Array(4).fill(1), predicted })
    for (let i = 0; i < 55; i++) {
      pipeline.receive('c', drawn(steps.at(-1)!, 7))
      await answer.next()
    }
    // The 59th token, where the mean of 4 to 64 was predicted.
    await vi.advanceTimersByTimeAsync((58 / 34 - 0.1) * STEP_DEADLINE_FLOOR_MS)
    expect(pipeline.failure).toBeUndefined()
    await vi.advanceTimersByTimeAsync(0.2 * STEP_DEADLINE_FLOOR_MS)
    expect(pipeline.failure).toMatchObject(lostPeer('c'))
  })

  test('the time of a prompt grows with what it was predicted to take', async () => {
    const { open, pipeline } = pipelineOf()
    await open({ predicted: { ttftMs: STEP_DEADLINE_FLOOR_MS, tpotMs: 1, stages: [], linksMs: [] } })
    await vi.advanceTimersByTimeAsync(STEP_DEADLINE_FLOOR_MS * (STEP_DEADLINE_FACTOR - 1))
    expect(pipeline.failure).toBeUndefined()
    await vi.advanceTimersByTimeAsync(STEP_DEADLINE_FLOOR_MS)
    expect(pipeline.failure).toMatchObject(lostPeer('c'))
  })
})

test('of known tokens one that shows how far they are goes in alone', async () => {
  const { pipeline, steps, open } = pipelineOf()
  const known: number[] = Array(100).fill(1)
  await open({ known, predicted: { ttftMs: 1, tpotMs: 200, stages: [], linksMs: [] } })
  const settled = () => new Promise(setImmediate)
  const ends: number[] = []
  for (let i = 0; i < 4; i++) {
    await settled()
    const mark = steps.at(-1)!
    expect(mark).toMatchObject({ tokens: 1, sample: true })
    ends.push(mark.rows[0]!.position + 1)
    pipeline.receive('c', drawn(mark, 7))
  }
  await settled()
  expect(ends).toEqual([32, 64, 96, 103])
  expect(steps.filter(({ sample }) => sample)).toHaveLength(5)
  // The next step is the answer's own.
  expect(steps.at(-1)!.rows[0]!.position).toBe(103)
})

describe('a prompt of 15,000 tokens', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())
  const prompt: number[] = Array(15_000).fill(1)
  const CHUNK_MS = 4000
  /** A first stage of this node's own that takes its time. */
  const slow = (steps: Step[]) => ({
    run: async (_: unknown, step: Step) => {
      await new Promise(resolve => setTimeout(resolve, CHUNK_MS))
      steps.push(step)
    },
    timingOf: () => undefined,
    dropBefore: () => {}
  })

  test('ends on a node alone however long it takes, unless its own runtime hangs', async () => {
    const steps: Step[] = []
    const { pipeline, open } = pipelineOf({ remote: [], first: slow(steps) })
    const answer = await open({ prompt })
    const token = answer.next()
    await vi.advanceTimersByTimeAsync((prompt.length / 32 + 1) * CHUNK_MS)
    expect([pipeline.failure, steps.length]).toEqual([undefined, Math.ceil(prompt.length / 32)])
    // With nobody to lose, no token is drawn only to see how far it is.
    expect(steps.filter(({ sample }) => sample)).toHaveLength(1)
    pipeline.accept(steps.at(-1)!.rows, [{ id: 7, logprob: 0, top: [] }], [])
    expect(await token).toMatchObject({ id: 7 })
    expect(pipeline.failure).toBeUndefined()
    const hanging = pipelineOf({ remote: [], first: { ...slow([]), run: () => new Promise<void>(() => {}) } })
    const never = (await hanging.open({ prompt })).next().catch((error: Error) => error)
    await vi.advanceTimersByTimeAsync(OWN_STEP_DEADLINE_MS)
    expect(await never).toMatchObject({
      name: 'OwnStageHangsError',
      message: expect.stringMatching(/32 tokens within 10 min.*edgeshard doctor/)
    })
  })

  /** Stages of other peers that let each milestone through after so long; only so much is on its way. */
  const through = async (
    { steps, pipeline }: Pick<ReturnType<typeof pipelineOf>, 'steps' | 'pipeline'>,
    milestones: number,
    milestoneMs: (at: number) => number
  ) => {
    const ends: number[] = []
    for (let at = 0; at < milestones; at++) {
      await vi.advanceTimersByTimeAsync(milestoneMs(at))
      const mark = steps.find(({ sample, rows }) => sample && rows[0]!.position >= (ends.at(-1) ?? 0))
      if (mark === undefined || pipeline.failure !== undefined) break
      const { position } = mark.rows[0]!
      const last = steps.at(-1)!
      expect(last.rows[0]!.position + last.tokens - (ends.at(-1) ?? 0)).toBeLessThanOrEqual(WINDOW_TOKENS)
      ends.push(position + mark.tokens)
      pipeline.receive('c', drawn(mark, 7))
    }
    await vi.advanceTimersByTimeAsync(0)
    return ends
  }

  test('goes through other peers’ stages as long as it gets on, ever slower', async () => {
    const played = pipelineOf()
    const answer = await played.open({ prompt })
    const token = answer.next()
    // 59 of them, the first within the floor; each later one takes a tenth more than the one before.
    const ends = await through(played, 59, at => 0.9 * STEP_DEADLINE_FLOOR_MS * 1.1 ** at)
    expect(ends.slice(0, 3)).toEqual([MILESTONE_TOKENS, 2 * MILESTONE_TOKENS, 3 * MILESTONE_TOKENS])
    expect(ends.at(-1)).toBe(prompt.length)
    expect(await token).toMatchObject({ id: 7 })
    expect(played.pipeline.failure).toBeUndefined()
    expect(
      played.steps.every(
        ({ sample, rows: [row] }) =>
          sample === ends.includes(row!.position + 32) || row!.position + 32 > prompt.length
      )
    ).toBe(true)
  })

  test('is taken from a stage that stops in the middle of it, with the part that is waited for', async () => {
    const played = pipelineOf({ unconfirmed: async () => new Set(['b']) })
    const answer = await played.open({
      prompt,
      predicted: { ttftMs: 60_000, tpotMs: 1, stages: [], linksMs: [] }
    })
    const failure = answer.next().catch((error: Error) => error)
    const ends = await through(played, 20, () => 1000)
    const at = ends.at(-1)!
    // Twenty times the largest share that the next part can have of the prediction.
    const share = Math.max(
      MILESTONE_TOKENS / prompt.length,
      ((at + MILESTONE_TOKENS) ** 2 - at ** 2) / prompt.length ** 2
    )
    const deadlineMs = Math.max(STEP_DEADLINE_FLOOR_MS, STEP_DEADLINE_FACTOR * share * 60_000)
    await vi.advanceTimersByTimeAsync(deadlineMs - 1)
    expect(played.pipeline.failure).toBeUndefined()
    await vi.advanceTimersByTimeAsync(2)
    expect(await failure).toMatchObject({
      ...lostPeer('b'),
      message: expect.stringContaining(
        `tokens ${at} to ${at + MILESTONE_TOKENS} of the prompt were not through within`
      )
    })
  })
})

test('a stage that is lost while a session is opened on it is not waited for', async () => {
  const opening = Promise.withResolvers<void>()
  const { pipeline, closed, open } = pipelineOf({
    open: (_, { signal }) => {
      signal.addEventListener('abort', () => opening.reject(signal.reason))
      return opening.promise
    }
  })
  const answer = open()
  pipeline.peerLost('c', 'it has fallen silent')
  await expect(answer).rejects.toMatchObject(lostPeer('c'))
  expect(closed).toHaveLength(1)
})

test('no session is opened on a stage that is silent already', async () => {
  const suspects = new Set<string>()
  let opened = 0
  const { pipeline, open } = pipelineOf({ suspects: () => suspects, open: async () => void opened++ })
  await (await open()).close()
  suspects.add('b')
  await expect(open()).rejects.toMatchObject(lostPeer('b'))
  expect(opened).toBe(1)
  expect(pipeline.failure).toMatchObject(lostPeer('b'))
})

test('a token of a session that awaits none is dropped', async () => {
  const { pipeline, steps, open } = pipelineOf()
  const answer = await open({ maxTokens: 1 })
  pipeline.receive('c', drawn(steps[0]!, 7))
  pipeline.receive('c', drawn(steps[0]!, 8))
  expect(await answer.next()).toMatchObject({ id: 7 })
  expect(pipeline.failure).toBeUndefined()
})

test('a stage that turns slow is named with several sessions at once, but not by steps behind a prompt', async () => {
  const found: SlowStage[] = []
  const { pipeline, steps, open } = pipelineOf({ onSlow: slow => void found.push(slow) })
  const answers = [await open({ maxTokens: 500 }), await open({ maxTokens: 500 })]
  const play = async (count: number, lastMs: number) => {
    for (let i = 0; i < count; i++) {
      let atMs = performance.timeOrigin + performance.now() - 4 - lastMs
      const timings = [2, 2, lastMs].map(computeMs => {
        const arrivedAtMs = atMs
        atMs += computeMs
        return { arrivedAtMs, sentAtMs: atMs, computeMs }
      })
      for (const step of steps.splice(0)) pipeline.receive('c', { ...drawn(step, 7), timings })
      await Promise.all(answers.map(answer => answer.next()))
    }
  }
  for (const step of steps.splice(0)) pipeline.receive('c', drawn(step, 7))
  pipeline.receive('c', drawn(steps.shift()!, 7))
  await Promise.all(answers.map(answer => answer.next()))
  await answers[0]!.next()
  await play(30, 5)
  const newcomer = await open()
  const prompt = steps.pop()!
  await play(60, 400)
  expect(found).toEqual([])
  pipeline.receive('c', drawn(prompt, 7))
  await newcomer.close()
  await play(36, 400)
  expect(found[0]).toMatchObject({ stage: 2 })
})

describe('a prompt that comes while an answer runs', () => {
  const linksMs = (ms: number) => ({
    predicted: { ttftMs: 1, tpotMs: 1, stages: [], linksMs: [ms, 1, 1000] }
  })
  const settled = () => new Promise(setImmediate)
  /** A pipeline with an answer that is being drawn, and a prompt of 100 tokens behind its first step. */
  const joined = async (ms: number) => {
    const played = pipelineOf(linksMs(ms))
    const running = await played.open()
    played.pipeline.receive('c', drawn(played.steps.shift()!, 7))
    await played.open({ prompt: Array(100).fill(1) })
    await settled()
    const [step] = played.steps.splice(0, 1)
    const chunks = () => played.steps.filter(({ tokens }) => tokens > 1).length
    return { ...played, running, step: step!, chunks }
  }

  test('goes in as fast as it can where links are fast', async () => {
    const { chunks } = await joined(0.5)
    expect(chunks()).toBe(4)
  })

  test('goes in chunk by chunk where they are slow, each when the one before has passed', async () => {
    const { pipeline, steps, step, chunks } = await joined(40)
    expect(chunks()).toBe(1)
    // This one had gone in before the chunk; the next one is behind it.
    pipeline.receive('c', drawn(step, 7))
    await settled()
    expect(chunks()).toBe(1)
    pipeline.receive('c', drawn(steps.pop()!, 7))
    await settled()
    expect(chunks()).toBe(2)
  })

  test('waits for nobody once the answer has ended', async () => {
    const { running, chunks, steps } = await joined(40)
    await running.close()
    await settled()
    expect(chunks()).toBe(4)
    expect(steps.at(-1)).toMatchObject({ tokens: 4, sample: true })
  })
})

describe('where many answers matter and none by itself', () => {
  const begun = async () => {
    const played = pipelineOf({ promptsFirst: true })
    const answers = [await played.open(), await played.open()]
    const [first, second] = played.steps.splice(0)
    played.pipeline.receive('c', drawn(first!, 7))
    return { ...played, answers, second: second! }
  }

  test('answers that begin together draw together: the first one waits for the others’ prompts', async () => {
    const { pipeline, steps, second } = await begun()
    expect(steps).toEqual([])
    pipeline.receive('c', drawn(second, 7))
    expect(steps.map(({ rows }) => rows.length)).toEqual([2])
  })

  test('a prompt that joins goes in whole, and waits for none of them', async () => {
    const { pipeline, steps, open, second } = await begun()
    pipeline.receive('c', drawn(second, 7))
    await open({ prompt: Array(100).fill(1) })
    await vi.waitFor(() => expect(steps.map(({ tokens }) => tokens)).toEqual([2, 32, 32, 32, 4]))
    pipeline.receive('c', drawn(steps[0]!, 7))
    expect(steps).toHaveLength(5)
    pipeline.receive('c', drawn(steps[4]!, 7))
    expect(steps.at(-1)!.rows).toHaveLength(3)
  })

  test('prompts that take each other’s places are not waited for without end', async () => {
    const { steps, open, answers } = await begun()
    let prompt = answers[1]!
    for (let i = 0; i < 5; i++) {
      expect(steps.filter(({ rows }) => rows[0]!.position > 0)).toEqual([])
      const next = await open()
      await prompt.close()
      prompt = next
    }
    expect(steps.filter(({ rows }) => rows[0]!.position > 0)).toHaveLength(1)
  })

  test('they wait for no long prompt, and for none that has ended', async () => {
    const { pipeline, steps, open, answers } = await begun()
    await answers[1]!.close()
    const [step] = steps.splice(0)
    expect(step!.rows).toHaveLength(1)
    await open({ prompt: Array(300).fill(1) })
    await vi.waitFor(() => expect(steps.length).toBeGreaterThan(1))
    steps.splice(0)
    pipeline.receive('c', drawn(step!, 7))
    expect(steps[0]!.rows).toEqual([{ sessionId: step!.rows[0]!.sessionId, position: 4 }])
  })
})

test.each<[Strategy, string[]]>([
  ['no-bubble', ['start 0', 'start 1', 'end 0', 'start 0', 'end 0', 'start 0', 'end 1', 'start 1']],
  ['bubble', ['start 0', 'start 1', 'end 0', 'end 1', 'start 0', 'start 1']]
])('micro-batches of %s overlap each other as that says', async (strategy, expected) => {
  const { pipeline, steps, open } = pipelineOf({ strategy, slots: 2, microBatches: 2 })
  const first = await open()
  await open()
  const prompts = steps.splice(0)
  const microBatches = prompts.map(({ rows }) => rows[0]!.sessionId)
  const trace: string[] = []
  const microBatchOf = ({ rows }: Step) => microBatches.indexOf(rows[0]!.sessionId)
  /** The step of a micro-batch that is on its way comes back. */
  const end = (microBatch: number) => {
    const at = steps.findIndex(step => microBatchOf(step) === microBatch)
    const [step] = steps.splice(at, 1)
    const before = steps.length
    trace.push(`end ${microBatch}`)
    pipeline.receive('c', drawn(step!, 7))
    for (const started of steps.slice(before)) trace.push(`start ${microBatchOf(started)}`)
  }
  pipeline.receive('c', drawn(prompts[0]!, 7))
  pipeline.receive('c', drawn(prompts[1]!, 7))
  // The second prompt's answer waits for the first one's step where all start together.
  if (strategy === 'bubble') pipeline.receive('c', drawn(steps.shift()!, 7))
  trace.push(...steps.map(step => `start ${microBatchOf(step)}`))
  end(0)
  if (strategy === 'no-bubble') end(0)
  end(1)
  expect(trace).toEqual(expected)
  expect(await first.next()).toMatchObject({ id: 7 })
})

test.each([
  [1, 1],
  [2, 2]
])(
  'of %i micro-batches that follow each other so many steps are under way at once',
  async (microBatches, expected) => {
    let own: StageTiming | undefined
    const steps: (Step & { input: Int32Array })[] = []
    const first = {
      run: async (input: Int32Array, step: Step) => void steps.push({ ...step, input }),
      timingOf: () => own,
      dropBefore() {}
    } as PipelineStages['first']
    const { pipeline, open } = pipelineOf({ first, slots: 2, microBatches })
    const answers = [await open(), await open()]
    const back = (step: Step) => {
      const atMs = performance.timeOrigin + performance.now() - 2
      const timings = [0, 1, 2].map(() => ({ arrivedAtMs: atMs, sentAtMs: atMs, computeMs: 0 }))
      own = timings[0]
      pipeline.receive('c', { ...drawn(step, 7), timings })
    }
    // The prompts, and what follows the first of them alone.
    for (const step of steps.splice(0)) back(step)
    for (let i = 0; i < 12; i++) back(steps.shift()!)
    for (const { measured } of answers) expect(Math.round(measured.observed.underWay!)).toBe(expected)
  }
)

describe('guesses', () => {
  /** A draft that always proposes the same, whatever was said. */
  const draft = { propose: (_: readonly number[], count: number) => Array(count).fill(50) }
  /** An answer that has a guess under way: the tokens of its first steps are those of the draft. */
  const guessing = async () => {
    const all = pipelineOf()
    const answer = await all.open({ draft })
    for (let i = 0; i < 32 && all.steps.at(-1)!.rows[0]!.position - 3 < i + 1; i++) {
      all.pipeline.receive('c', drawn(all.steps[i]!, 50))
      await answer.next()
    }
    const underWay = all.steps.slice(-2)
    expect(underWay.map(({ input }) => [...input])).toEqual([[50], [50]])
    return { ...all, answer, underWay }
  }

  test('follow the last token, and hold where it is drawn as they say', async () => {
    const { pipeline, underWay, answer, dropped } = await guessing()
    const [certain, guess] = underWay
    expect(guess!.rows[0]!.position).toBe(certain!.rows[0]!.position + 1)
    pipeline.receive('c', drawn(certain!, 50))
    pipeline.receive('c', drawn(guess!, 50))
    expect([await answer.next(), await answer.next()]).toMatchObject([{ id: 50 }, { id: 50 }])
    expect([dropped, answer.guesses!.held]).toEqual([[], expect.any(Number)])
    expect(answer.guesses!.held).toBeGreaterThan(0)
  })

  test('that are wrong are dropped on every stage, and what comes of them counts for nothing', async () => {
    const { pipeline, steps, underWay, answer, dropped } = await guessing()
    const [certain, guess] = underWay
    pipeline.receive('c', drawn(certain!, 60))
    const again = steps.at(-2)!
    const { position, epoch } = again.rows[0]!
    expect([position, [...again.input]]).toEqual([guess!.rows[0]!.position, [60]])
    expect(epoch).toBe(guess!.rows[0]!.epoch! + 1)
    expect(dropped.map(({ peerId, frame }) => [peerId, frame.type, frame.rows[0]!.epoch])).toEqual([
      ['b', 'drop', epoch],
      ['c', 'drop', epoch]
    ])
    pipeline.receive('c', drawn(guess!, 70))
    pipeline.receive('c', drawn(again, 61))
    expect([await answer.next(), await answer.next()]).toMatchObject([{ id: 60 }, { id: 61 }])
    expect(pipeline.failure).toBeUndefined()
  })

  test.each([
    ['out of turn', (row: { position: number; epoch?: number }) => ({ ...row, position: row.position + 1 })],
    ['of an epoch that has not begun', (row: { position: number; epoch?: number }) => ({ ...row, epoch: 9 })]
  ])('a token %s is the loss of the stage that sent it', async (_, change) => {
    const { pipeline, underWay, answer } = await guessing()
    const [certain] = underWay
    const rows = certain!.rows.map(row => ({ ...row, ...change(row) }))
    pipeline.receive('c', drawn({ ...certain!, rows }, 50))
    await expect(answer.next()).rejects.toMatchObject(lostPeer('c'))
  })

  test('of a draft that wants them are made with what the last stage says that the model made of certain tokens', async () => {
    const seen: [position: number, states: number[]][] = []
    const told: boolean[] = []
    const saw = (position: number, states: Float32Array) => void seen.push([position, [...states]])
    const all = pipelineOf({ open: async ({ states }) => void told.push(states === true) })
    const { pipeline, steps } = all
    const answer = await all.open({ draft: { ...draft, saw } })
    await all.open()
    expect(told).toEqual([true, false])
    const [wanting, other] = steps
    const states = ({ rows }: Step, values: number[], over: object = {}) => {
      const hidden = new Float32Array(new SharedArrayBuffer(4 * values.length))
      hidden.set(values)
      const head = { rows, tokens: values.length / 2, hiddenSize: 2, sample: false, timings: [], ...over }
      return { type: 'hidden' as const, ...head, hidden }
    }
    const memory = (peerId: string, step: Step, over?: object) =>
      pipeline.memoryFor(peerId, { ...states(step, [1, 2], over), payloadBytes: 8, maskBytes: 0 } as never)
    expect(memory('c', wanting!)).toMatchObject({ tokens: 1, data: { length: 2 } })
    for (const refused of [
      memory('b', wanting!),
      memory('c', other!),
      memory('c', wanting!, { hiddenSize: 4 }),
      memory('c', wanting!, { tokens: 33 }),
      memory('c', { ...wanting!, rows: [...wanting!.rows, ...other!.rows] })
    ])
      expect(refused).toBeNull()
    pipeline.receive('b', states(wanting!, [9, 9]))
    pipeline.receive('c', states(wanting!, [1, 2, 3, 4, 5, 6]))
    pipeline.receive('c', drawn(wanting!, 50))
    await answer.next()
    const next = steps.at(-1)!
    const [row] = next.rows
    pipeline.receive('c', states(next, [7, 8]))
    pipeline.receive('c', states({ ...next, rows: [{ ...row!, sessionId: 'ff'.repeat(16) }] }, [9, 9]))
    expect(seen).toEqual([
      [0, [1, 2, 3, 4, 5, 6]],
      [3, [7, 8]]
    ])
    await answer.close()
    pipeline.receive('c', states(next, [9, 9]))
    expect(seen).toHaveLength(2)
    expect(pipeline.failure).toBeUndefined()
  })

  test('wait for nothing that is late but the step that is next', async () => {
    vi.useFakeTimers()
    try {
      const { pipeline, answer } = await guessing()
      const late = answer.next().catch((error: Error) => error)
      await vi.advanceTimersByTimeAsync(STEP_DEADLINE_FLOOR_MS + 1000)
      expect(await late).toMatchObject({ name: 'StageLostError' })
      expect(pipeline.failure).toBeDefined()
    } finally {
      vi.useRealTimers()
    }
  })
})
