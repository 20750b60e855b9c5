import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { weightBytes } from '../../../../models/runtime/memory.ts'
import type { GenerateEvent, PlannedStage } from '../../../../node/api.ts'
import type { Recruits } from '../../../../node/source/placement/recruit.ts'
import { REQUEST_TIMEOUT_MS } from '../../../../protocols/constants.ts'
import {
  LEASE_CODES,
  type LeaseBlame,
  type LeaseCode,
  RefusedError
} from '../../../../protocols/lease/index.ts'
import { pass, played, stopClock } from '../../simulation/clock.ts'
import { shareOf } from '../../simulation/mesh.ts'
import { type Meeting, onMeeting } from '../../simulation/peers.ts'
import { MODEL, meshOf } from '../simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const going = new AbortController().signal
const stage = (peerId: string, start: number, end: number): PlannedStage => {
  const layers = [start, end] as [number, number]
  return { peerId, name: `${peerId}'s name`, layers, weightBytes: weightBytes(MODEL.manifest, layers) }
}

const RECRUITS: Recruits = {
  modelId: MODEL.id,
  manifest: MODEL.manifest,
  stages: [stage('a', 0, 2), stage('b', 2, 3), stage('c', 3, 5)],
  slots: 1,
  contextTokens: 256,
  waitMs: 0
}

/** Three devices, and a source that recruits them. */
function recruiting(over: Partial<Recruits> = {}) {
  const mesh = meshOf(['a', 'b', 'c'])
  const { recruiter } = mesh.get('a').source()
  const events: GenerateEvent[] = []
  const abort = new AbortController()
  const recruit = () =>
    recruiter.recruit(
      { ...RECRUITS, ...over },
      { signal: abort.signal, onProgress: event => void events.push(event) }
    )
  return { mesh, recruit, events, abort }
}

test('every stage is reserved, gets the weights that it misses, and is loaded', async () => {
  const { mesh, recruit, events } = recruiting()
  const held = await played(recruit())
  expect(held.map(({ planned }) => planned)).toEqual(RECRUITS.stages)
  expect([...mesh.nodes.values()].map(({ runtime }) => runtime.loads)).toEqual([[[0, 2]], [[2, 3]], [[3, 5]]])
  expect(events).toContainEqual(
    expect.objectContaining({
      type: 'progress',
      phase: 'weights',
      peer: "b's name",
      total: RECRUITS.stages[1]!.weightBytes
    })
  )
  expect(new Set(events.map(event => (event.type === 'progress' ? event.peer : event.type)))).toEqual(
    new Set(["a's name", "b's name", "c's name"])
  )
  await played(Promise.all(held.map(one => one.release({ reachable: true }))))
  expect(mesh.empty).toBe(true)
})

test('of devices that have one name each is told of by a name of its own', async () => {
  const stages = RECRUITS.stages.map(each => ({ ...each, name: 'line controller' }))
  const { recruit, events } = recruiting({ stages })
  const held = await played(recruit())
  const told = new Set(events.flatMap(event => (event.type === 'progress' ? [event.peer] : [])))
  expect(told).toEqual(new Set(['a', 'b', 'c'].map(id => `line controller ...${id}`)))
  await played(Promise.all(held.map(one => one.release({ reachable: true }))))
})

test('of a device whose GPU and CPU have a stage each both are told of by names of their own', async () => {
  const mesh = meshOf(['a'], 0.7)
  const memoryBytes = shareOf(MODEL, 1)
  mesh.add('b', { memoryBytes, beside: { memoryBytes } })
  const on = (processor: string, start: number, end: number) => ({ ...stage('b', start, end), processor })
  const stages = [stage('a', 0, 2), on('gpu', 2, 4), on('cpu', 4, 5)]
  const { recruiter } = mesh.get('a').source()
  const told = new Set<string>()
  const { signal } = new AbortController()
  const onProgress = ({ peer }: { peer: string }) => void told.add(peer)
  const held = await played(recruiter.recruit({ ...RECRUITS, stages }, { signal, onProgress }))
  expect(told).toEqual(new Set(["a's name", "b's name (gpu)", "b's name (cpu)"]))
  await played(Promise.all(held.map(one => one.release({ reachable: true }))))
  expect(mesh.empty).toBe(true)
})

test('a device that keeps two stages reserves both at once', async () => {
  const stages = [stage('a', 0, 2), stage('b', 2, 4), stage('a', 4, 5)]
  const mesh = meshOf(['a', 'b'], 0.7)
  const { recruiter } = mesh.get('a').source()
  const { signal } = new AbortController()
  const held = await played(recruiter.recruit({ ...RECRUITS, stages }, { signal, onProgress() {} }))
  expect(mesh.get('a').room.leases.state(() => 0)).toHaveLength(2)
  await played(Promise.all(held.map(one => one.release({ reachable: true }))))
  expect(mesh.empty).toBe(true)
})

/** What becomes of a refusal, by whose it is to act. */
const ACTED: Record<LeaseBlame, string> = {
  source: 'OfferRefusedError',
  peer: 'StageLostError'
}
const REFUSALS = (['reserve', 'load'] as const).flatMap(what =>
  Object.entries(LEASE_CODES).map(([code, blame]) => [what, code as LeaseCode, ACTED[blame]] as const)
)

describe.each(['b', 'c'])('%s refuses', id => {
  test.each(REFUSALS)('%s with %s: that is a %s, and nothing stays reserved', async (what, code, name) => {
    const { mesh, recruit } = recruiting()
    onMeeting(mesh.get(id), what, () => {
      throw new RefusedError(code, 'it does not want to')
    })
    await expect(played(recruit())).rejects.toMatchObject({
      name,
      peerId: id,
      message: expect.stringContaining('it does not want to')
    })
    await pass(200)
    expect(mesh.empty).toBe(true)
  })

  test('for want of memory: it is an offer that is gone', async () => {
    const { mesh, recruit } = recruiting()
    const { leases } = mesh.get(id).room
    const taken = { source: 'x', modelId: 'x'.repeat(64), range: [0, 1] as const, ownBytes: 0 }
    leases.reserve([{ ...taken, weightBytes: leases.budgetBytes }])
    await expect(played(recruit())).rejects.toMatchObject({
      name: 'OfferRefusedError',
      peerId: id,
      message: expect.stringContaining('bytes')
    })
    expect(leases.state(() => 0)).toHaveLength(1)
  })
})

test('what this node has not got itself is refused as by a peer', async () => {
  const { mesh, recruit } = recruiting()
  const { leases } = mesh.get('a').room
  const taken = { source: 'x', modelId: 'x'.repeat(64), range: [0, 1] as const, ownBytes: 0 }
  leases.reserve([{ ...taken, weightBytes: leases.budgetBytes }])
  await expect(played(recruit())).rejects.toMatchObject({ name: 'OfferRefusedError', peerId: 'a' })
})

test('memory that is in use is waited for, with what is reserved before renewed', async () => {
  const { mesh, recruit } = recruiting({ waitMs: 100_000 })
  const { leases } = mesh.get('c').room
  const taken = { source: 'x', modelId: 'x'.repeat(64), range: [0, 1] as const, ownBytes: 0 }
  const [other] = leases.reserve([{ ...taken, weightBytes: leases.budgetBytes }])!
  leases.setIdle(other!.id, false)
  setInterval(() => leases.renew(other!.id), 1000)
  const recruited = recruit()
  await pass(60_000)
  expect(leases.waiting).toBe(1)
  expect(mesh.get('b').peers.met.get('renew')).toBeGreaterThan(3)
  leases.release(other!.id)
  expect(await played(recruited)).toHaveLength(3)
})

test('a source that waits for several devices takes none before it is the first on each, and then all of them at once', async () => {
  const { mesh, recruit } = recruiting({ waitMs: 100_000 })
  const [b, c] = [mesh.get('b').room.leases, mesh.get('c').room.leases]
  const all = { source: 'x', modelId: 'x'.repeat(64), range: [0, 1] as const, ownBytes: 0 }
  const [held] = b.reserve([{ ...all, weightBytes: b.budgetBytes }])!
  b.setIdle(held!.id, false)
  const [recruitedFor] = c.reserve([{ ...all, weightBytes: c.budgetBytes }])!
  setInterval(() => [b, c].map(table => table.state(() => 0).map(({ id }) => table.renew(id))), 1000)
  const recruited = recruit()
  await pass(5000)
  const ofSource = (leases: typeof b) =>
    leases.state(() => 0).filter(({ modelId }) => modelId === MODEL.id).length
  expect([mesh.get('a').room.leases, b, c].map(ofSource)).toEqual([0, 0, 0])
  expect([b.waiting, c.waiting]).toEqual([0, 0])
  c.release(recruitedFor!.id)
  await pass(1000)
  // What one of them uses may take as long as an answer does.
  expect([mesh.get('a').room.leases, b, c].map(ofSource)).toEqual([1, 0, 1])
  expect(b.waiting).toBe(1)
  b.release(held!.id)
  const stages = await played(recruited)
  expect(stages).toHaveLength(3)
  await played(Promise.all(stages.map(one => one.release({ reachable: true }))))
  expect(mesh.empty).toBe(true)
})

test('an answer that has begun stands beside the line of a device that is being drained, too', async () => {
  const { mesh, recruit } = recruiting({ waitMs: 100_000, begun: true })
  mesh.drain('b')
  const { leases } = mesh.get('c').room
  const all = { source: 'x', modelId: 'x'.repeat(64), range: [0, 1] as const, ownBytes: 0 }
  // One of each: the second one is still waited for when the source stands.
  const [first] = leases.reserve([{ ...all, weightBytes: leases.budgetBytes }])!
  leases.setIdle(first!.id, false)
  void leases.acquire([{ ...all, source: 'y', weightBytes: leases.budgetBytes }], {
    waitMs: 50_000,
    signal: going
  })
  setInterval(() => leases.state(() => 0).map(({ id }) => leases.renew(id)), 1000)
  const recruited = recruit()
  await pass(5000)
  const held = ['a', 'b'].flatMap(id => mesh.get(id).room.leases.state(() => 0))
  expect(held).toEqual([])
  leases.release(first!.id)
  await pass(5000)
  for (const { id } of leases.state(() => 0)) leases.release(id)
  expect(await played(recruited)).toHaveLength(3)
})

test('a lease stream that opens just when its source goes away is ended', async () => {
  const { mesh, recruit, abort } = recruiting({ waitMs: 100_000 })
  const { peers } = mesh.get('a')
  const lease = peers.lease.bind(peers)
  const ended: ReturnType<typeof vi.spyOn>[] = []
  peers.lease = async (...asked) => {
    const stream = await lease(...asked)
    ended.push(vi.spyOn(stream, 'end'))
    abort.abort(new Error('enough'))
    return stream
  }
  await expect(played(recruit())).rejects.toThrow('enough')
  await pass(1000)
  expect(ended.length).toBeGreaterThan(0)
  for (const end of ended) expect(end).toHaveBeenCalled()
})

test('where a device does not say when a source is the first, devices are asked in one order, and renewed meanwhile', async () => {
  const { mesh, recruit } = recruiting({ waitMs: 100_000 })
  const { leases } = mesh.get('c').room
  onMeeting(mesh.get('b'), 'reserve', () => {
    throw new RefusedError('not-understood', 'it does not know what it is to stand')
  })
  const all = { source: 'x', modelId: 'x'.repeat(64), range: [0, 1] as const, ownBytes: 0 }
  const [other] = leases.reserve([{ ...all, weightBytes: leases.budgetBytes }])!
  leases.setIdle(other!.id, false)
  setInterval(() => leases.renew(other!.id), 1000)
  const recruited = recruit()
  await pass(60_000)
  expect(leases.waiting).toBe(1)
  expect(mesh.get('b').peers.met.get('renew')).toBeGreaterThan(3)
  leases.release(other!.id)
  expect(await played(recruited)).toHaveLength(3)
})

test('as soon as one device cannot say so the others are asked: in a line, where the source is not the first', async () => {
  const { mesh, recruit } = recruiting({ waitMs: 100_000 })
  const { leases } = mesh.get('c').room
  onMeeting(mesh.get('b'), 'reserve', () => {
    throw new RefusedError('not-understood', 'it does not know what it is to stand')
  })
  const all = { source: 'x', modelId: 'x'.repeat(64), range: [0, 1] as const, ownBytes: 0 }
  // Not used yet, so nobody is told that he is the first.
  const [other] = leases.reserve([{ ...all, weightBytes: leases.budgetBytes }])!
  setInterval(() => leases.renew(other!.id), 1000)
  const recruited = recruit()
  await pass(5000)
  expect(leases.waiting).toBe(1)
  // Nor is it before others while it waits.
  const { leases: free } = mesh.get('a').room
  const [small] = RECRUITS.stages
  const asked = { source: 'y', modelId: 'y'.repeat(64), range: small!.layers, weightBytes: 1, ownBytes: 1 }
  await expect(free.first([asked], { waitMs: 1000 })).resolves.toBe(true)
  leases.release(other!.id)
  expect(await played(recruited)).toHaveLength(3)
})

test('a device that is being drained hears of what has begun when a source stands there, too', async () => {
  const { mesh, recruit } = recruiting({ waitMs: 100_000, begun: true })
  mesh.get('b').serving.draining = true
  const { leases } = mesh.get('b').room
  const stands = vi.spyOn(leases, 'first')
  expect(await played(recruit())).toHaveLength(3)
  expect(stands).toHaveBeenCalledOnce()
})

test('a peer that answers later than its deadline is lost', async () => {
  const { mesh, recruit } = recruiting()
  onMeeting(mesh.get('b'), 'reserve', () => new Promise(() => {}))
  const startMs = Date.now()
  await expect(played(recruit())).rejects.toMatchObject({ name: 'StageLostError', peerId: 'b' })
  expect(Date.now() - startMs).toBeGreaterThan(REQUEST_TIMEOUT_MS)
  await pass(1000)
  expect(mesh.empty).toBe(true)
})

test('a peer that answers late, but in time, is waited for', async () => {
  const { mesh, recruit } = recruiting()
  onMeeting(mesh.get('b'), 'reserve', () => new Promise(resolve => setTimeout(resolve, 9000)))
  onMeeting(mesh.get('c'), 'load', () => new Promise(resolve => setTimeout(resolve, 29_000)))
  expect(await played(recruit())).toHaveLength(3)
})

test('an answer that comes when its source has gone away leaves nothing reserved', async () => {
  const { mesh, recruit, abort } = recruiting()
  onMeeting(mesh.get('b'), 'reserve', async () => {
    abort.abort(new Error('enough'))
    await new Promise(resolve => setTimeout(resolve, 500))
  })
  await expect(played(recruit())).rejects.toThrow('enough')
  await pass(1000)
  expect(mesh.empty).toBe(true)
})

test.each<Meeting>(['connect', 'reserve', 'load'])(
  'a peer that falls silent at %s is not waited for',
  async what => {
    const { mesh, recruit } = recruiting()
    onMeeting(mesh.get('b'), what, () => void mesh.silence('b'))
    const startMs = Date.now()
    await expect(played(recruit())).rejects.toMatchObject({
      name: 'StageLostError',
      peerId: 'b',
      message: "b's name (b) has fallen silent while it was recruited"
    })
    expect(Date.now() - startMs).toBeLessThan(REQUEST_TIMEOUT_MS)
    await pass(1000)
    expect(mesh.empty).toBe(true)
    expect(mesh.get('a').peers.events.listenerCount('silent')).toBe(1)
  }
)

test('somebody else’s silence is nothing to it', async () => {
  const { mesh, recruit } = recruiting()
  mesh.add('d', { memoryBytes: 1 })
  onMeeting(mesh.get('b'), 'load', () => mesh.silence('d', 10))
  expect(await played(recruit())).toHaveLength(3)
})

describe('what fails on this device itself', () => {
  test('a load takes the others back', async () => {
    const { mesh, recruit } = recruiting()
    mesh.get('a').runtime.failing.load = new Error('a damaged file')
    await expect(played(recruit())).rejects.toMatchObject({
      name: 'OwnStageNotLoadedError',
      message: expect.stringMatching(
        /^this device, .*a.*, failed while loading layers \[0, \d\): a damaged file$/
      )
    })
    await pass(200)
    expect(mesh.empty).toBe(true)
  })

  test('KV caches that cannot be allocated give the shard back, too', async () => {
    const { mesh, recruit } = recruiting()
    mesh.get('a').runtime.failing.batch = new Error('no memory')
    await expect(played(recruit())).rejects.toThrow('no memory')
    await pass(200)
    expect(mesh.empty).toBe(true)
  })

  test('weights that nobody delivers', async () => {
    const { mesh, recruit } = recruiting()
    for (const { sha256 } of MODEL.manifest.layers.slice(0, 2)) mesh.get('a').store.files.delete(sha256)
    await expect(played(recruit())).rejects.toMatchObject({ name: 'BlobUnavailableError' })
    await pass(200)
    expect(mesh.empty).toBe(true)
  })

  test('weights that another device holds are fetched', async () => {
    const { mesh, recruit } = recruiting()
    mesh.get('c').store.hold(MODEL.name, MODEL.bytes)
    for (const { sha256 } of MODEL.manifest.layers.slice(0, 2)) mesh.get('a').store.files.delete(sha256)
    expect(await played(recruit())).toHaveLength(3)
    expect(mesh.get('a').notices.join('\n')).toContain('from the mesh')
  })
})

test('a lease is asked for in the name of its request', async () => {
  const { mesh, recruit } = recruiting({ requestId: 'r-1' })
  const asked: unknown[] = []
  const { serving } = mesh.get('b')
  const reserve = serving.reserve.bind(serving)
  serving.reserve = (peerId, request, options) => {
    asked.push(request.requestId)
    return reserve(peerId, request, options)
  }
  await played(recruit())
  expect(asked).toEqual(['r-1'])
})
