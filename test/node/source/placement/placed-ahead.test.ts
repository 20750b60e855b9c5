import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { GenerateEvent } from '../../../../node/api.ts'
import { MAX_WAITING_REQUESTS, WAIT_FOR_MEMORY_MS, WAIT_FOR_PEERS_MS } from '../../../../node/constants.ts'
import { predictedFirstMs } from '../../../../node/first-token.ts'
import { parseScenario, plan } from '../../../../node/plan/index.ts'
import type { AheadNeeds } from '../../../../node/source/placement/placed-ahead.ts'
import type { PlanningComponents } from '../../../../node/source/placement/planning.ts'
import { pass, played, stopClock } from '../../simulation/clock.ts'
import { drawAnswer, MODEL, meshOf, needsOf } from '../simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const going = new AbortController().signal
const about = (over: Partial<AheadNeeds> = {}): AheadNeeds => {
  const { model, newTokens, objective, privacy, placement } = needsOf()
  return { model, promptTokens: 20, newTokens, objective, privacy, placement, ...over }
}
const loadsOf = (mesh: ReturnType<typeof meshOf>) =>
  [...mesh.nodes.values()].flatMap(({ runtime }) => runtime.loads).length
const progressOf = (events: readonly GenerateEvent[]) =>
  events.filter(({ type }) => type === 'progress').length

test('a model is placed while the prompt is read, and the request finds it there, with what happened and what it took', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  const ahead = deployments.placeAhead(about(), going)
  expect(ahead).toBeDefined()
  await pass(10_000)
  const loads = loadsOf(mesh)
  expect(loads).toBeGreaterThan(2)
  const { events, stream, tokens } = await played(drawAnswer(deployments, needsOf(MODEL, { ahead })))
  expect(loadsOf(mesh)).toBe(loads)
  expect(progressOf(events)).toBeGreaterThan(0)
  expect(stream.predicted!.loadMs).toBeGreaterThan(0)
  // As if it had been placed by the request.
  const alone = meshOf(['a', 'b', 'c'])
  const other = await played(drawAnswer(alone.get('a').source().deployments))
  expect(tokens).toEqual(other.tokens)
  expect(stream.plan).toEqual(other.stream.plan)
  await played(deployments.close())
  expect(mesh.empty).toBe(true)
})

test('a request that is read sooner than its model is placed waits for that, and for nothing else', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  const ahead = deployments.placeAhead(about(), going)
  await pass(1)
  const { tokens } = await played(drawAnswer(deployments, needsOf(MODEL, { ahead })))
  expect(tokens).toHaveLength(8)
  const placed = loadsOf(mesh)
  const direct = meshOf(['a', 'b', 'c'])
  await played(drawAnswer(direct.get('a').source().deployments))
  expect(placed).toBe(loadsOf(direct))
  await played(deployments.close())
})

test('a prompt that turns out longer than there is room for is placed anew', async () => {
  const mesh = meshOf(['a', 'b', 'c'], 0.48)
  const { deployments } = mesh.get('a').source()
  const ahead = deployments.placeAhead(about({ promptTokens: 1, newTokens: 1 }), going)
  await pass(10_000)
  const loads = loadsOf(mesh)
  const prompt = Array.from({ length: 300 }, (_, i) => i % 50)
  const needs = needsOf(MODEL, { ahead, prompt, promptTokens: prompt.length })
  const { tokens } = await played(drawAnswer(deployments, needs))
  expect(tokens).toHaveLength(8)
  expect(loads).toBeGreaterThan(0)
  expect(loadsOf(mesh)).toBeGreaterThan(loads)
  await played(deployments.close())
  expect(mesh.empty).toBe(true)
})

test('where the request comes to nothing, nothing stays reserved of what was under way, at whatever moment', async () => {
  for (const ms of [0, 5, 20, 50, 100, 200]) {
    const mesh = meshOf(['a', 'b', 'c'])
    const { deployments } = mesh.get('a').source()
    const over = new AbortController()
    deployments.placeAhead(about(), over.signal)
    await pass(ms)
    over.abort(new Error('the prompt was refused'))
    await pass(120_000)
    expect(mesh.empty, `after ${ms} ms`).toBe(true)
    expect((await played(drawAnswer(deployments))).tokens).toHaveLength(8)
    await played(deployments.close())
  }
})

test('and what is placed by then is given back at once, unless somebody uses it', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  const over = new AbortController()
  deployments.placeAhead(about(), over.signal)
  await pass(10_000)
  expect(mesh.empty).toBe(false)
  over.abort(new Error('the prompt was refused'))
  await pass(1000)
  expect(mesh.empty).toBe(true)
  const used = new AbortController()
  const ahead = deployments.placeAhead(about(), used.signal)
  await played(drawAnswer(deployments, needsOf(MODEL, { ahead })))
  used.abort(new Error('the request is over'))
  await pass(1000)
  expect(deployments.state()).toHaveLength(1)
  await played(deployments.close())
})

test('what cannot be placed ahead is for the request to say', async () => {
  const mesh = meshOf(['a', 'b'], 0.3)
  const { deployments } = mesh.get('a').source()
  const ahead = deployments.placeAhead(about(), going)
  const failed = drawAnswer(deployments, needsOf(MODEL, { ahead })).catch((error: Error) => error)
  expect(await played(failed)).toMatchObject({ message: expect.stringContaining('fits nowhere') })
})

test('what was refused ahead is not planned again for its request, which waits for late peers all the same', async () => {
  const lengths: number[] = []
  const planner: PlanningComponents['planner'] = {
    begin: () => {},
    solve: async (scenario, options) => {
      lengths.push(scenario.workload.contextTokens)
      return plan(parseScenario(scenario), { ...options, explain: false })
    }
  }
  const { deployments } = meshOf(['a', 'b'], 0.3).get('a').source({ planner })
  const startMs = performance.now()
  const ahead = deployments.placeAhead(about(), going)
  await pass(1000)
  const planned = lengths.length
  const failed = drawAnswer(deployments, needsOf(MODEL, { ahead })).catch((error: Error) => error)
  expect(await played(failed)).toMatchObject({ name: 'PlanRefusedError' })
  expect(performance.now() - startMs).toBeGreaterThan(WAIT_FOR_PEERS_MS)
  expect(planned).toBeGreaterThan(0)
  expect(lengths.slice(planned)).toEqual([])
})

test('nothing is placed ahead where a model is placed, where others are about to, or where it would not stay', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  expect(deployments.placeAhead({ ...about(), keepAliveMs: 0 }, going)).toBeUndefined()
  const ahead = deployments.placeAhead(about(), going)
  expect(deployments.placeAhead(about(), going)).toBeUndefined()
  await played(drawAnswer(deployments, needsOf(MODEL, { ahead })))
  expect(deployments.placeAhead(about(), going)).toBeUndefined()
  await played(deployments.close())
})

test('where reading the prompt takes longer than loading, the first token is predicted behind that', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  const startedAtMs = performance.now()
  const ahead = deployments.placeAhead(about(), going)
  await pass(10_000)
  let firstMs = 0
  const { stream } = await played(
    drawAnswer(deployments, needsOf(MODEL, { ahead, startedAtMs }), {
      onToken: ({ length }) => {
        if (length === 1) firstMs = performance.now() - startedAtMs
      }
    })
  )
  expect(firstMs).toBeGreaterThan(10_000)
  expect(Math.abs(predictedFirstMs(stream.predicted!) / firstMs - 1)).toBeLessThan(0.05)
  await played(deployments.close())
})

test('what it took is of the first place alone: a loss is recovered from in its own time', async () => {
  const mesh = meshOf(['a', 'b', 'c', 'd'])
  const { deployments } = mesh.get('a').source()
  const startedAtMs = performance.now()
  const ahead = deployments.placeAhead(about(), going)
  await pass(10_000)
  const { events, stream } = await played(
    drawAnswer(deployments, needsOf(MODEL, { ahead, startedAtMs }), {
      onToken: ({ length }) => {
        if (length === 3) mesh.vanish(deployments.state()[0]!.plan.stages[1]!.peerId)
      }
    })
  )
  expect(stream.recoveries).toBe(1)
  const [first, second] = events.flatMap(event => (event.type === 'plan' ? [event.predicted] : []))
  expect([first!.loadMs, first!.waitedMs].every(ms => ms! > 0)).toBe(true)
  expect([second!.loadMs, second!.waitedMs]).toEqual([undefined, undefined])
  const [spent] = events.flatMap(event => (event.type === 'recovered' ? [event.spent] : []))
  expect(spent!.recruitMs).toBeGreaterThan(0)
  await played(deployments.close())
})

test('a request whose memory was waited for before its prompt was read does not wait as long again', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { leases } = mesh.get('b').room
  const taken = { source: 'x', modelId: 'x'.repeat(64), range: [0, 1] as const, ownBytes: 0 }
  const [other] = leases.reserve([{ ...taken, weightBytes: leases.budgetBytes }])!
  leases.setIdle(other!.id, false)
  setInterval(() => leases.renew(other!.id), 1000)
  const { deployments } = mesh.get('a').source()
  const startMs = performance.now()
  const ahead = deployments.placeAhead(about(), going)
  await pass(1000)
  const refused = drawAnswer(deployments, needsOf(MODEL, { ahead })).catch((error: Error) => error)
  expect(await played(refused)).toMatchObject({ name: 'BusyError' })
  expect(performance.now() - startMs).toBeLessThan(1.5 * WAIT_FOR_MEMORY_MS)
  // The line is as empty as it was.
  leases.release(other!.id)
  expect((await played(drawAnswer(deployments))).tokens).toHaveLength(8)
  await played(deployments.close())
})

test('a request has its place in the line from when its model was begun to be placed, whoever comes meanwhile', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  const ahead = deployments.placeAhead(about(), going)
  const others = Array.from({ length: MAX_WAITING_REQUESTS - 1 }, () =>
    drawAnswer(deployments, needsOf(MODEL, { newTokens: 1 }))
  )
  const own = drawAnswer(deployments, needsOf(MODEL, { ahead }))
  expect((await played(own)).tokens).toHaveLength(8)
  await played(Promise.all(others))
  await played(deployments.close())
  expect(mesh.empty).toBe(true)
})

test('a request whose reader leaves while it waits for what was begun holds up nobody', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  const over = new AbortController()
  const ahead = deployments.placeAhead(about(), over.signal)
  const history = { known: [], avoid: new Set<string>(), lost: undefined }
  const reader = deployments.acquire({ ...needsOf(MODEL, { ahead }), ...history }, { signal: going })
  await played(reader.next())
  await reader.return(undefined as never)
  over.abort(new Error('the client has left'))
  expect((await played(drawAnswer(deployments))).tokens).toHaveLength(8)
  await played(deployments.close())
  expect(mesh.empty).toBe(true)
})
