import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  PLAN_BUDGET_MS,
  PROFILE_PATIENCE_MS,
  WAIT_FOR_MEMORY_MS,
  WAIT_FOR_PEERS_MS
} from '../../../../node/constants.ts'
import { StageLostError } from '../../../../node/errors.ts'
import { parseScenario, plan } from '../../../../node/plan/index.ts'
import { assumedTimes } from '../../../../node/source/placement/assumed-times.ts'
import type { PlanningComponents, PlanningHistory } from '../../../../node/source/placement/planning.ts'
import { pass, played, stopClock } from '../../simulation/clock.ts'
import { type SimulatedMesh, shareOf } from '../../simulation/mesh.ts'
import { drawAnswer, MODEL, meshOf, needsOf } from '../simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const going = { signal: new AbortController().signal }
const history = (over: Partial<PlanningHistory> = {}): PlanningHistory => ({
  refused: new Set(),
  failed: new Set(),
  avoid: new Set(),
  failure: undefined,
  ...over
})
const devicesOf = ({ plan }: { plan: { stages: readonly { device: string }[] } }) =>
  plan.stages.map(({ device }) => device)

test('a plan is made of what is free now, and waits for nothing', async () => {
  const { planning } = meshOf(['a', 'b', 'c']).get('a').source()
  const found = await played(planning.plan(needsOf(), history(), going))
  expect(devicesOf(found)).toEqual(['a', 'b', 'c'])
  expect(found).toMatchObject({ waitMs: 0, slots: 1, contextTokens: 256 })
})

test('devices that are silent or gone are no candidates', async () => {
  const mesh = meshOf(['a', 'b', 'c', 'd', 'e'])
  mesh.vanish('b')
  void mesh.silence('c', 0)
  const { planning } = mesh.get('a').source()
  expect(planning.candidates().peers.map(({ record }) => record.peerId)).toEqual(['d', 'e'])
  expect(planning.candidate('b')).toBeUndefined()
  expect(devicesOf(await played(planning.plan(needsOf(), history(), going)))).toEqual(['a', 'd', 'e'])
})

test('memory that is in use is planned with where it is needed, and waited for', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  mesh.get('b').saysFreeBytes = 0
  const { planning } = mesh.get('a').source()
  const found = await played(planning.plan(needsOf(), history(), going))
  expect([devicesOf(found), found.waitMs]).toEqual([['a', 'b', 'c'], WAIT_FOR_MEMORY_MS])
})

test('an offer that was gone is asked for again only by waiting', async () => {
  const { planning } = meshOf(['a', 'b', 'c', 'd']).get('a').source()
  const refused = new Set(['b'])
  const other = await played(planning.plan(needsOf(), history({ refused }), going))
  expect([devicesOf(other), other.waitMs]).toEqual([['a', 'c', 'd'], 0])
  const { planning: without } = meshOf(['a', 'b', 'c']).get('a').source()
  const again = await played(without.plan(needsOf(), history({ refused }), going))
  expect([devicesOf(again), again.waitMs]).toEqual([['a', 'b', 'c'], WAIT_FOR_MEMORY_MS])
  // What this node itself has not got cannot be planned around.
  const own = await played(without.plan(needsOf(), history({ refused: new Set(['a']) }), going))
  expect(own.waitMs).toBe(WAIT_FOR_MEMORY_MS)
})

test('a peer that failed the request before is taken only where it cannot be placed without it', async () => {
  const avoid = new Set(['b'])
  const { planning } = meshOf(['a', 'b', 'c', 'd']).get('a').source()
  expect(devicesOf(await played(planning.plan(needsOf(), history({ avoid }), going)))).toEqual([
    'a',
    'c',
    'd'
  ])
  const { planning: three } = meshOf(['a', 'b', 'c']).get('a').source()
  expect(devicesOf(await played(three.plan(needsOf(), history({ avoid }), going)))).toEqual(['a', 'b', 'c'])
})

test('of several that failed it the first is taken again before those that came after', async () => {
  // Without d all others are needed; it would do instead of both.
  const mesh = meshOf(['a', 'b', 'c'])
  mesh.add('d', { memoryBytes: shareOf(MODEL, 2) }).decodeMs = 0.001
  const { planning } = mesh.get('a').source()
  const without = async (...avoid: string[]) =>
    devicesOf(await played(planning.plan(needsOf(), history({ avoid: new Set(avoid) }), going)))
  expect(await without('c', 'd')).toEqual(['a', 'b', 'c'])
  expect(await without('b', 'c', 'd')).toEqual(['a', 'b', 'c'])
  expect(await without('d', 'c')).toContain('d')
})

test('nor is it where devices cannot reach each other', async () => {
  const mesh = meshOf(['a', 'b', 'c', 'd'])
  for (const [one, other] of [
    ['b', 'c'],
    ['b', 'd'],
    ['c', 'd']
  ] as const)
    mesh.part(one, other)
  // Whoever is avoided would be taken for its speed.
  mesh.get('b').decodeMs = 0.001
  const { planning } = mesh.get('a').source()
  const relayed = async (over: Partial<PlanningHistory>) =>
    devicesOf(await played(planning.plan(needsOf(), history(over), going))).sort()
  expect(await relayed({})).toContain('b')
  expect(await relayed({ avoid: new Set(['b']) })).toEqual(['a', 'c', 'd'])
  for (const id of ['c', 'd']) mesh.get(id).saysFreeBytes = 0
  expect(await relayed({ avoid: new Set(['b']) })).toEqual(['a', 'c', 'd'])
})

/** How many wait for a change of the mesh, beside the deployments of the node, which always do. */
const listeners = (mesh: SimulatedMesh) => mesh.get('a').peers.events.listenerCount('change') - 1
test('what an answer found of two devices is believed for a minute, and no longer when one of them leaves', async () => {
  const mesh = meshOf(['a', 'b', 'c', 'd'])
  const { planning } = mesh.get('a').source()
  planning.foundApart(['c', 'b'])
  expect([planning.isApart('b', 'c'), planning.isApart('b', 'd')]).toEqual([true, false])
  await pass(61_000)
  expect(planning.isApart('b', 'c')).toBe(false)
  planning.foundApart(['c', 'b'])
  planning.foundApart(['b', 'd'])
  mesh.vanish('c')
  expect([planning.isApart('b', 'c'), planning.isApart('b', 'd')]).toEqual([false, true])
  // It was gone, and that is why the other one could not reach it.
  planning.foundApart(['b', 'c'])
  expect(planning.isApart('b', 'c')).toBe(false)
})

test('a plan that cannot be run is searched for again in what is left of the time for one', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const budgetsMs: (number | undefined)[] = []
  const searches = (solveMs: number): PlanningComponents['planner'] => ({
    begin: () => {},
    solve: async (scenario, options) => {
      budgetsMs.push(options?.budgetMs)
      const found = plan(parseScenario(scenario), { ...options, explain: false })
      if (!found.feasible || budgetsMs.length % 2 === 0) return found
      // A stage between two of one device.
      const [a, b, c] = found.stages
      return { ...found, solveMs, stages: [a!, b!, c!, b!] }
    }
  })
  for (const solveMs of [0.1 * PLAN_BUDGET_MS, 3 * PLAN_BUDGET_MS]) {
    const { planning } = mesh.get('a').source({ planner: searches(solveMs) })
    await planning.solve(planning.scenario(needsOf()))
  }
  expect(budgetsMs.map(ms => ms! / PLAN_BUDGET_MS)).toEqual([1, 0.9, 1, 0.25])
})

describe('where nothing fits', () => {
  test('a peer that comes in time is planned with', async () => {
    const mesh = meshOf(['a', 'b'])
    const { planning } = mesh.get('a').source()
    const found = planning.plan(needsOf(), history(), going)
    await pass(WAIT_FOR_PEERS_MS - 1000)
    mesh.add('late', { memoryBytes: shareOf(MODEL, 0.42) })
    expect(devicesOf(await played(found))).toEqual(['a', 'b', 'late'])
    expect(listeners(mesh)).toBe(0)
  })

  test('it is refused after a while, with what is needed and what there is', async () => {
    const mesh = meshOf(['a', 'b'])
    const { planning } = mesh.get('a').source()
    const startMs = Date.now()
    await expect(played(planning.plan(needsOf(), history(), going))).rejects.toMatchObject({
      name: 'PlanRefusedError',
      message: expect.stringMatching(/^model fits nowhere: /)
    })
    expect(Date.now() - startMs).toBeGreaterThanOrEqual(WAIT_FOR_PEERS_MS)
    const alone = meshOf(['a']).get('a').source().planning
    await expect(played(alone.plan(needsOf(), history(), going))).rejects.toThrow('no peer was found')
  })

  test('it is refused with the devices that were lost lately, also where the refusal is known already', async () => {
    const mesh = meshOf(['a', 'b', 'c'])
    const { planning } = mesh.get('a').source()
    mesh.vanish('b')
    await pass(2000)
    void mesh.silence('c', 0)
    await pass(0)
    const hasty = () =>
      played(
        planning
          .plan({ ...needsOf(), isHasty: true }, history(), going)
          .catch((error: Error) => error.message)
      )
    expect(await hasty()).toMatch(/; not there any more: c \(silent for .+\), b \(gone 2\.\d\d s ago\)$/)
    await pass(1000)
    expect(await hasty()).toMatch(/b \(gone 3\.\d\d s ago\)$/)
  })

  test('it is not worked out again for the same request while the mesh is the same, and is when a device has come', async () => {
    const mesh = meshOf(['a', 'b'])
    let solved = 0
    const { planning } = mesh.get('a').source({
      planner: {
        begin: () => {},
        solve: async (scenario, options) => {
          solved++
          return plan(parseScenario(scenario), { explain: false, ...options })
        }
      }
    })
    const refusalOf = (needs: Parameters<typeof planning.plan>[0]) =>
      played(planning.plan(needs, history(), going).catch((error: Error) => error.message))
    const first = await refusalOf({ ...needsOf(), isHasty: true })
    expect(first).toContain('it would fit with')
    const once = solved
    expect(await refusalOf(needsOf())).toBe(first)
    expect(solved).toBe(once)
    // Another one is.
    const privacy = 'sealed'
    await refusalOf({ ...needsOf(MODEL, { privacy }), isHasty: true })
    expect(solved).toBeGreaterThan(once)
    await refusalOf({ ...needsOf(), isHasty: true })
    const late = planning.plan(needsOf(), history(), going)
    await pass(1000)
    mesh.add('late', { memoryBytes: shareOf(MODEL, 0.42) })
    expect(devicesOf(await played(late))).toEqual(['a', 'b', 'late'])
  })

  test('nor is what would help worked out of a shorter try, whose refusal nobody reads', async () => {
    const { planning } = meshOf(['a', 'b'])
      .get('a')
      .source({
        planner: {
          begin: () => {},
          solve: async (scenario, options) => plan(parseScenario(scenario), { explain: false, ...options })
        }
      })
    const short = played(planning.plan({ ...needsOf(), isShortened: true }, history(), going))
    await expect(short).rejects.toThrow(/^model fits nowhere: (?!.*it would fit)/)
    await expect(played(planning.plan(needsOf(), history(), going))).rejects.toThrow('it would fit with')
  })

  test('what failed before is said where it was that', async () => {
    const { planning } = meshOf(['a', 'b', 'c']).get('a').source()
    const failure = new StageLostError('c did not answer', 'c')
    const failed = new Set(['c'])
    await expect(played(planning.plan(needsOf(), history({ failed, failure }), going))).rejects.toBe(failure)
  })

  test('a loss that cannot be replaced is said', async () => {
    const { planning } = meshOf(['a', 'b']).get('a').source()
    const lost = new StageLostError('stage lost: c', 'c')
    await expect(played(planning.plan(needsOf(), history({ lost }), going))).rejects.toMatchObject({
      name: 'StageLostError',
      peerId: 'c',
      message: expect.stringMatching(/^stage lost: c; the rest cannot hold the model: /)
    })
  })

  test('who aborts meanwhile waits no longer, and nobody listens any more', async () => {
    const mesh = meshOf(['a', 'b'])
    const { planning } = mesh.get('a').source()
    const abort = new AbortController()
    const found = planning.plan(needsOf(), history(), abort).catch((error: Error) => error.message)
    await pass(1000)
    expect(listeners(mesh)).toBe(1)
    abort.abort(new Error('enough'))
    expect(await played(found)).toBe('enough')
    expect(listeners(mesh)).toBe(0)
  })
})

test('links that were never measured are measured first, unless an answer waits for its next token', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { planning } = mesh.get('a').source()
  const measure = vi.spyOn(mesh.get('a').peers, 'measure')
  await played(planning.plan(needsOf(), history({ lost: new StageLostError('gone', 'd') }), going))
  expect(measure).not.toHaveBeenCalled()
  await played(planning.plan(needsOf(), history(), going))
  expect(measure).toHaveBeenCalledWith(['b', 'c'], { signal: going.signal })
})

describe('layers are timed for a plan', () => {
  /** A source in a mesh that has timed nothing, and what it was asked to time. */
  function untimed(mesh: ReturnType<typeof meshOf>) {
    const node = mesh.get('a')
    const time = vi.fn(async () => {})
    for (const each of mesh.nodes.values()) each.timed = false
    return { planning: node.source({ profiler: { time } }).planning, time }
  }

  test('not where this device is alone: it has nothing to choose', async () => {
    const { planning, time } = untimed(meshOf(['a'], 20))
    const { plan } = await played(planning.plan(needsOf(), history(), going))
    expect(devicesOf({ plan })).toEqual(['a'])
    expect(time).not.toHaveBeenCalled()
    // Deadlines of its steps follow from that.
    expect(plan.predicted.ttftMs).toBeGreaterThan(0)
    expect(plan.predicted.tpotMs).toBeGreaterThan(0)
  })

  test('nor where no peer could hold a layer', async () => {
    const mesh = meshOf(['a'], 20)
    mesh.add('b', { memoryBytes: 1 })
    const { planning, time } = untimed(mesh)
    expect(devicesOf(await played(planning.plan(needsOf(), history(), going)))).toEqual(['a'])
    expect(time).not.toHaveBeenCalled()
  })

  test('but where another one could be taken, also one that comes meanwhile', async () => {
    const { planning, time } = untimed(meshOf(['a', 'b'], 20))
    await played(planning.plan(needsOf(), history(), going))
    expect(time).toHaveBeenCalledWith(needsOf().model, expect.anything())
    const mesh = meshOf(['a'])
    const lonely = untimed(mesh)
    const found = lonely.planning.plan(needsOf(), history(), going)
    await pass(WAIT_FOR_PEERS_MS - 1000)
    expect(lonely.time).not.toHaveBeenCalled()
    mesh.add('late', { memoryBytes: shareOf(MODEL, 2) }).timed = false
    await played(found)
    expect(lonely.time).toHaveBeenCalled()
  })

  test('for no longer than that is worth: then times are assumed, and the timing ends', async () => {
    const mesh = meshOf(['a', 'b', 'c'])
    const node = mesh.get('a')
    for (const each of mesh.nodes.values()) each.timed = false
    let until: AbortSignal | undefined
    const time = vi.fn((_: unknown, { signal }: { signal?: AbortSignal } = {}) => {
      until = signal
      return new Promise<void>(() => {})
    })
    const { planning } = node.source({ profiler: { time } })
    const found = planning.plan(needsOf(), history(), going)
    await pass(PROFILE_PATIENCE_MS - 10)
    expect(until?.aborted).toBe(false)
    const { plan } = await played(found)
    expect(plan.stages.length).toBeGreaterThan(1)
    expect(until?.aborted).toBe(true)
  })

  test('and not where they can be likened to those of a device that has timed them, as slow as this one is elsewhere', async () => {
    const mesh = meshOf(['a', 'b', 'c'], 1.2)
    const source = mesh.get('a')
    source.timed = false
    const slow = { decodeMs: 5, prefillMsPerToken: 5 }
    source.profiles = { small: { embedding: slow, decoder: slow, head: slow } }
    const quick = { decodeMs: 0.5, prefillMsPerToken: 0.5 }
    mesh.get('b').profiles = { small: { embedding: quick, decoder: quick, head: quick } }
    const time = vi.fn(async () => {})
    const { planning } = source.source({ profiler: { time } })
    const { model } = needsOf()
    mesh.get('b').decodeMs = assumedTimes(model.manifest).decoder!.decodeMs
    expect(planning.ownTimes(model).decoder!.decodeMs).toBe(10 * mesh.get('b').decodeMs)
    await played(planning.plan(needsOf(), history(), going))
    expect(time).not.toHaveBeenCalled()
  })

  test('and not while an answer waits for its next token', async () => {
    const { planning, time } = untimed(meshOf(['a', 'b'], 20))
    const lost = new StageLostError('gone', 'd')
    await played(planning.plan(needsOf(), history({ lost }), going))
    expect(time).not.toHaveBeenCalled()
  })
})

describe('what is begun while a prompt is read', () => {
  test('is the thread that plans, and the links, which the plan then does not measure as well', async () => {
    const mesh = meshOf(['a', 'b', 'c'])
    const planner = { begin: vi.fn(), solve: vi.fn() }
    const measured = Promise.withResolvers<void>()
    const measure = vi.spyOn(mesh.get('a').peers, 'measure').mockReturnValueOnce(measured.promise)
    const { planning } = mesh.get('a').source({ planner })
    planning.prepare(going.signal)
    expect(planner.begin).toHaveBeenCalledOnce()
    await pass(0)
    const plan = planning.plan(needsOf(), history(), going).catch((error: Error) => error)
    await pass(100)
    expect([measure.mock.calls.length, planner.solve.mock.calls.length]).toEqual([1, 0])
    measured.resolve()
    await played(plan)
    expect(measure).toHaveBeenCalledTimes(2)
    expect(planner.solve).toHaveBeenCalled()
  })

  test('is nothing where this device is alone', () => {
    const mesh = meshOf(['a'])
    const planner = { begin: vi.fn(), solve: vi.fn() }
    const measure = vi.spyOn(mesh.get('a').peers, 'measure')
    mesh.get('a').source({ planner }).planning.prepare(going.signal)
    expect([measure.mock.calls, planner.begin.mock.calls]).toEqual([[], []])
  })

  test('is nothing for the next request, whose model is placed', async () => {
    const { deployments, planning } = meshOf(['a', 'b', 'c']).get('a').source()
    const prepare = vi.spyOn(planning, 'prepare')
    deployments.prepare(going.signal)
    expect(prepare).toHaveBeenCalledOnce()
    await played(drawAnswer(deployments))
    deployments.prepare(going.signal)
    expect(prepare).toHaveBeenCalledOnce()
    await played(deployments.close())
  })
})

test('where it makes nothing slower there is room for several sequences, and for a conversation that grows', async () => {
  const mesh = meshOf(['a'], 20)
  const { planning } = mesh.get('a').source()
  const wide = await played(planning.plan(needsOf(), history(), going))
  expect(wide).toMatchObject({ slots: 4, contextTokens: 1024 })
  const narrow = meshOf(['a'], 3).get('a').source().planning
  expect(await played(narrow.plan(needsOf(), history(), going))).toMatchObject({
    slots: 4,
    contextTokens: 256
  })
})

test('a method that was asked for is the one that plans', async () => {
  const { planning } = meshOf(['a', 'b'], 2).get('a').source()
  const needs = needsOf(MODEL, { placement: { method: 'edgeshard-even' } })
  const { plan } = await played(planning.plan(needs, history(), going))
  expect([plan.method, plan.stages.length]).toEqual(['edgeshard-even', 2])
})

test('a device on which timing fails plans with assumed times', async () => {
  const profiler = { time: () => Promise.reject(new Error('no thread could be started')) }
  const { planning } = meshOf(['a', 'b', 'c']).get('a').source({ profiler })
  const { plan } = await played(planning.plan(needsOf(), history(), going))
  expect(plan.stages.length).toBeGreaterThan(1)
})
