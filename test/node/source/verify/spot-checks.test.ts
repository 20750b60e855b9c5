import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { ShardSession } from '../../../../models/runtime/runtime.ts'
import {
  SPOT_CHECK_GIVE_UP_MS,
  SPOT_CHECK_MAX_TOKENS,
  SPOT_CHECK_PATIENCE_MS,
  SPOT_CHECK_PAUSE_MS,
  SPOT_CHECK_TOKENS
} from '../../../../node/constants.ts'
import type { Draft } from '../../../../node/source/draft/draft.ts'
import { Distrust } from '../../../../node/source/placement/distrust.ts'
import { type FinishedAnswer, SpotChecks } from '../../../../node/source/verify/spot-checks.ts'
import { pass, played, settle, stopClock } from '../../simulation/clock.ts'
import type { SimulatedNode } from '../../simulation/mesh.ts'
import { type Drawn, drawAnswer, MODEL, meshOf, needsOf } from '../simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const NEEDS = needsOf(MODEL, { newTokens: 40 })

function finished({ tokens, stream }: Drawn, over: Partial<FinishedAnswer> = {}): FinishedAnswer {
  const { prompt, sampling } = NEEDS
  const { id: modelId, name: modelName, manifest } = MODEL
  return { modelId, modelName, manifest, prompt, tokens, sampling, stages: stream.plan.stages, ...over }
}

/** A source that checks every answer, or one of so many. */
function checking(source: SimulatedNode, every = 1) {
  const now = () => performance.now()
  const notices: string[] = []
  const distrust = new Distrust({ now, onNotice: notice => void notices.push(notice) })
  const { id: peerId, room, weights } = source
  const checks = new SpotChecks({ peerId, room, weights, distrust }, { every, now })
  return { checks, distrust, notices }
}

/** The last device draws what it likes, of every so many tokens. */
function forge(liar: SimulatedNode, every = 1, made = (id: number) => (id + 1) % 16): { forged: number } {
  const seen = { forged: 0 }
  const send = liar.peers.send.bind(liar.peers)
  let tokens = 0
  liar.peers.send = (to, frame) => {
    if (frame.type !== 'token' || ++tokens % every > 0) return send(to, frame)
    seen.forged++
    return send(to, { ...frame, drawn: frame.drawn.map(token => ({ ...token, id: made(token.id) })) })
  }
  return seen
}

/** An answer of three devices, the last of which may lie, that is checked once the model is off the source again. */
async function checked({
  every,
  ids = ['a', 'b', 'liar'],
  share = 0.42,
  draft,
  made
}: {
  every?: number
  ids?: string[]
  share?: number
  draft?: Draft
  made?: (id: number) => number
}) {
  const mesh = meshOf(ids, share)
  const source = mesh.get('a')
  if (ids.length === 2) mesh.get('a').decodeMs = 100
  const seen = every === undefined ? { forged: 0 } : forge(mesh.get('liar'), every, made)
  const { deployments } = source.source()
  const check = checking(source)
  const answer = await played(drawAnswer(deployments, { ...NEEDS, draft }))
  await played(deployments.close())
  const loads = source.runtime.loads.length
  check.checks.answered(finished(answer))
  await pass(SPOT_CHECK_PAUSE_MS - 1)
  expect(source.runtime.loads.length).toBe(loads)
  await pass(60_000)
  return { ...check, mesh, source, answer, seen, loads: source.runtime.loads.slice(loads) }
}

test('an answer that a device wrote itself is noticed, and who may have been it named', async () => {
  const { notices, distrust, seen, loads, mesh } = await checked({ every: 1 })
  expect(seen.forged).toBe(40)
  expect(notices).toEqual([
    expect.stringMatching(
      /^an answer of model is not what the model draws: 2[0-4] of 24 tokens .* One of these computed something else: b \(b\), liar \(liar\)$/
    )
  ])
  // Of several it may be any.
  expect(distrust.leftPeerIds).toEqual([])
  // A range at a time, in the memory that there was.
  expect(loads.length).toBeGreaterThan(1)
  expect(loads.at(-1)![1]).toBe(MODEL.manifest.layers.length)
  expect(mesh.empty).toBe(true)
})

test('a device that was alone with it is not taken for a day', async () => {
  const { notices, distrust } = await checked({ every: 1, ids: ['a', 'liar'], share: 2 })
  expect(notices[0]).toMatch(/It was computed by liar \(liar\); it is not taken for 24 hours unless/)
  expect(distrust.leftPeerIds).toEqual(['liar'])
})

test('a device that confirms guesses which it did not check is noticed as any other', async () => {
  const draft: Draft = { propose: (_, count) => Array(count).fill(7) }
  const { notices, answer } = await checked({ every: 1, draft, made: () => 7 })
  expect(answer.stream.guesses!.held).toBeGreaterThan(20)
  expect(notices).toEqual([expect.stringContaining('is not what the model draws')])
})

test('an honest answer is none that is wrong, nor one of which a few tokens differ, as rounding may', async () => {
  expect((await checked({})).notices).toEqual([])
  const few = await checked({ every: 6 })
  expect(few.seen.forged).toBeGreaterThan(4)
  expect(few.notices).toEqual([])
})

test('an answer whose tokens hang on rounding is not called wrong', async () => {
  const mesh = meshOf(['a', 'b', 'liar'])
  const source = mesh.get('a')
  const { deployments } = source.source()
  const seen = forge(mesh.get('liar'))
  const answer = await played(drawAnswer(deployments, NEEDS))
  await played(deployments.close())
  const grouped = drawsOtherwiseInGroups(source)
  const { checks, notices } = checking(source)
  checks.answered(finished(answer))
  await pass(SPOT_CHECK_PAUSE_MS + 60_000)
  expect(seen.forged).toBe(40)
  // The first one of an answer is drawn behind its prompt's rows in either way.
  expect(grouped.draws).toBeGreaterThanOrEqual(SPOT_CHECK_TOKENS)
  expect(notices).toEqual([])
})

/** Makes a device draw other tokens behind steps of several rows. */
function drawsOtherwiseInGroups({ runtime }: SimulatedNode): { draws: number } {
  const seen = { draws: 0 }
  const load = runtime.load.bind(runtime)
  const other = (session: ShardSession): ShardSession => ({
    ...session,
    forward: async step => {
      const output = await session.forward(step)
      const rows = step.input instanceof Int32Array ? step.input.length : step.input.tokens
      if (output.kind !== 'token' || rows === 1) return output
      seen.draws++
      return { ...output, token: { ...output.token, id: (output.token.id + 1) % 16 } }
    }
  })
  runtime.load = async (...args) => {
    const shard = await load(...args)
    const openBatch: typeof shard.openBatch = async options => {
      const batch = await shard.openBatch(options)
      const open: typeof batch.open = async slot => other(await batch.open(slot))
      return {
        open,
        step: (...step) => batch.step(...step),
        decode: (...step) => batch.decode(...step),
        close: () => batch.close()
      }
    }
    return { ...shard, openBatch }
  }
  return seen
}

describe('nothing is checked', () => {
  const honest = async () => {
    const mesh = meshOf(['a', 'b', 'c'])
    const { deployments } = mesh.get('a').source()
    const answer = await played(drawAnswer(deployments, NEEDS))
    return { mesh, deployments, answer, source: mesh.get('a') }
  }
  const loadsAfter = async (source: SimulatedNode, every: number, answer: FinishedAnswer) => {
    const before = source.runtime.loads.length
    const { checks, notices } = checking(source, every)
    checks.answered(answer)
    await pass(2 * SPOT_CHECK_GIVE_UP_MS)
    expect(notices).toEqual([])
    return source.runtime.loads.length - before
  }

  test.each<[string, number, (answer: FinishedAnswer) => Partial<FinishedAnswer>]>([
    ['where it is turned off', 0, () => ({})],
    ['of an answer that this node drew alone', 1, ({ stages }) => ({ stages: stages.slice(0, 1) })],
    [
      'of one that is shorter than a check',
      1,
      ({ tokens }) => ({ tokens: tokens.slice(0, SPOT_CHECK_TOKENS - 1) })
    ],
    ['at a high temperature', 1, ({ sampling }) => ({ sampling: { ...sampling, temperature: 1.1 } })],
    ['behind a long prompt', 1, () => ({ prompt: Array(SPOT_CHECK_MAX_TOKENS).fill(1) })]
  ])('%s', async (_, every, over) => {
    const { source, deployments, answer } = await honest()
    await played(deployments.close())
    const whole = finished(answer)
    expect(await loadsAfter(source, every, { ...whole, ...over(whole) })).toBe(0)
  })

  test('where a file of the model is missing', async () => {
    const { source, deployments, answer } = await honest()
    await played(deployments.close())
    source.store.files.delete(MODEL.manifest.layers[4]!.sha256)
    expect(await loadsAfter(source, 1, finished(answer))).toBe(0)
  })

  test('while memory is held, and it is given up in the end', async () => {
    const { source, answer, deployments } = await honest()
    const { leases } = source.room
    const [held] = leases.reserve([
      { source: 'x', modelId: 'x'.repeat(64), range: [0, 1], weightBytes: leases.freeBytes, ownBytes: 0 }
    ])!
    const renewal = setInterval(() => leases.renew(held!.id), 1000)
    expect(await loadsAfter(source, 1, finished(answer))).toBe(0)
    clearInterval(renewal)
    await played(deployments.close())
  })
})

test('an answer that begins meanwhile is not held up, and the check comes after it', async () => {
  const mesh = meshOf(['a', 'b', 'liar'])
  const source = mesh.get('a')
  const seen = forge(mesh.get('liar'))
  const { deployments } = source.source()
  const answer = await played(drawAnswer(deployments, NEEDS))
  await played(deployments.close())
  const { checks, notices } = checking(source)
  source.runtime.speed.loadMs = 500
  checks.answered(finished(answer))
  await pass(SPOT_CHECK_PAUSE_MS + 600)
  // Something of it is loaded, or loads.
  expect(source.room.leases.state(() => 0)).toHaveLength(1)
  const startMs = Date.now()
  await played(drawAnswer(deployments, NEEDS))
  expect(Date.now() - startMs).toBeLessThan(SPOT_CHECK_PAUSE_MS)
  expect(notices).toEqual([])
  await played(deployments.close())
  await pass(SPOT_CHECK_GIVE_UP_MS)
  expect(seen.forged).toBe(80)
  expect(notices).toHaveLength(1)
  expect(mesh.empty).toBe(true)
})

describe('what is done here meanwhile puts a check off for a while, and no longer', () => {
  /** A forged answer that is to be checked, and what is done on the source every 10 s from then on. */
  async function checkedBeside(work: (source: SimulatedNode) => void) {
    const mesh = meshOf(['a', 'b', 'liar'])
    const source = mesh.get('a')
    forge(mesh.get('liar'))
    const { deployments } = source.source()
    const answer = await played(drawAnswer(deployments, NEEDS))
    await played(deployments.close())
    const { checks, notices } = checking(source)
    checks.answered(finished(answer))
    let putOffMs = 0
    while (notices.length === 0 && putOffMs < SPOT_CHECK_GIVE_UP_MS) {
      work(source)
      checks.answered(finished(answer))
      await pass(10_000)
      if (notices.length === 0) putOffMs += 10_000
    }
    return { notices, putOffMs }
  }

  test('a session that a member keeps open', async () => {
    const { notices, putOffMs } = await checkedBeside(({ room }) => {
      vi.spyOn(room.sessions, 'open', 'get').mockReturnValue(1)
    })
    expect(notices).toHaveLength(1)
    expect(putOffMs).toBeGreaterThanOrEqual(SPOT_CHECK_PATIENCE_MS)
    expect(putOffMs).toBeLessThan(SPOT_CHECK_PATIENCE_MS + 3 * SPOT_CHECK_PAUSE_MS)
  })

  test('answers that follow each other, each of which would be checked itself', async () => {
    const { notices, putOffMs } = await checkedBeside(() => {})
    expect(notices).toHaveLength(1)
    expect(putOffMs).toBeLessThan(3 * SPOT_CHECK_PAUSE_MS)
  })
})

test('a node that stops leaves nothing behind', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const source = mesh.get('a')
  const { deployments } = source.source()
  const answer = await played(drawAnswer(deployments, NEEDS))
  await played(deployments.close())
  const { checks } = checking(source)
  source.runtime.speed.loadMs = 500
  checks.answered(finished(answer))
  await pass(SPOT_CHECK_PAUSE_MS + 600)
  await played(checks.stop())
  await pass(2000)
  await settle()
  expect(mesh.empty).toBe(true)
})
