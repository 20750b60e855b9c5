import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { weightBytes } from '../../../models/runtime/memory.ts'
import type { LayerTimes } from '../../../models/runtime/runtime.ts'
import { timingBytes } from '../../../models/runtime/timing-bytes.ts'
import type { NodeRecord } from '../../../node/api.ts'
import {
  PROFILE_AGAIN_MS,
  PROFILE_CHECK_MS,
  PROFILE_DOUBT_MS,
  PROFILE_QUIET_MS,
  PROFILE_TERM_MS
} from '../../../node/constants.ts'
import { ProfileFiles } from '../../../node/profile/profile-files.ts'
import type { Machine } from '../../../node/profile/profile-key.ts'
import { Profiler, type ProfilerComponents, quantizationOf } from '../../../node/profile/profiler.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { settle } from '../simulation/clock.ts'
import { simulatedModel } from '../simulation/mesh.ts'

const [ONE, TWO] = [simulatedModel('one'), simulatedModel('two')]
/** Another shape: models of one shape share their times. */
const WIDE = simulatedModel('wide')
WIDE.manifest = { ...WIDE.manifest, shape: { ...WIDE.manifest.shape, ffnSize: 128 } }
const times = (decodeMs: number): LayerTimes => ({
  decodeMs,
  decodeMsByBatch: {},
  prefillMsPerToken: decodeMs
})
const MACHINE: Machine = { processor: 'P', features: 'avx2', arch: 'x64', runtimeVersion: '1' }
const START_MS = Date.UTC(2026, 0, 1)

/** Files are read and written in real time. */
const soon = (condition: () => boolean | Promise<boolean>) =>
  vi.waitUntil(condition, { timeout: deadlineMs(5_000) })

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date'] })
  vi.setSystemTime(START_MS)
})
afterEach(() => void vi.useRealTimers())

const nothing: ProfilerComponents['files'] = { read: async () => undefined, write: async () => {} }

interface DeviceOptions {
  held?: (typeof ONE)[]
  /** What stages take beside layers, one time after the other. */
  turnsMs?: number[]
  files?: ProfilerComponents['files']
  threads?: number
}

/** A device that takes so long for a layer, one time after the other, and holds these models. */
function device(
  decodeMs: number[],
  { held = [ONE, WIDE], turnsMs = [], files = nothing, threads = 2 }: DeviceOptions = {}
) {
  let self = {
    models: held.map(({ id, name }) => ({ id, name, layers: [[0, 5]] })),
    profiles: {}
  } as unknown as NodeRecord
  const state = { busy: false, doubted: false, freeBytes: Number.MAX_SAFE_INTEGER }
  const running = { now: 0, most: 0, begun: 0, ended: 0 }
  const held_: { release: (() => void) | undefined } = { release: undefined }
  const components: ProfilerComponents = {
    runtime: {
      profile: async (_shape, _quantization, { signal } = {}) => {
        running.begun++
        running.most = Math.max(running.most, ++running.now)
        try {
          await settle()
          if (held_.release !== undefined) {
            await new Promise<void>((resolve, reject) => {
              held_.release = resolve
              signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
            })
          }
        } finally {
          running.now--
        }
        running.ended++
        const ms = decodeMs.shift()
        if (ms === undefined) throw new Error('the layers cannot be timed')
        return { embedding: times(ms), decoder: times(ms), head: times(ms) }
      }
    },
    timeStage: async ({ signal }) => {
      await settle()
      signal.throwIfAborted()
      const turnMs = turnsMs.shift()
      if (turnMs === undefined) throw new Error('turns cannot be timed')
      return { turnMs, sharedTurnMs: turnMs / 2, startMs: 40 }
    },
    store: {
      held: async () => [WIDE, TWO, ONE].map(model => held.find(({ id }) => id === model.id) ?? model)
    },
    mesh: {
      get self() {
        return self
      },
      update: change => {
        self = { ...self, ...change }
      }
    },
    files,
    threads,
    isBusy: () => state.busy,
    freeBytes: () => state.freeBytes,
    isDoubted: () => state.doubted
  }
  const said = () =>
    Object.fromEntries(Object.entries(self.profiles).map(([id, { decoder }]) => [id, decoder!.decodeMs]))
  const profiler = new Profiler(components)
  return { profiler, said, turns: () => self.stageTimes, state, running, slow: held_ }
}

function start(profiler: Profiler) {
  const notices: string[] = []
  const stopping = new AbortController()
  const onNotice = (message: string) => void notices.push(message)
  const started = profiler.start({ signal: stopping.signal, onNotice }).catch((error: Error) => error.name)
  return { started, notices, stopping }
}

test('a model is timed once, one after the other, whoever asks', async () => {
  const { profiler, said, running } = device([3, 4])
  await Promise.all([profiler.time(ONE), profiler.time(WIDE), profiler.time(ONE)])
  await profiler.time(WIDE)
  expect(said()).toEqual({ [ONE.id]: 3, [WIDE.id]: 4 })
  expect(running.most).toBe(1)
})

test('a model that a lease brought is timed in memory that nobody has leased, or not before there is some', async () => {
  // A source may call a model of any shape its own, and lease one small layer of it.
  const planted = { ...TWO, name: TWO.id }
  const { manifest } = planted
  const takes = timingBytes(manifest.shape, quantizationOf(manifest))
  expect(takes).toBeGreaterThan(weightBytes(manifest, [0, 1]))
  const { profiler, said, state, running } = device([3, 4, 5, 6], { held: [ONE, planted] })
  state.freeBytes = takes - 1
  const { stopping, started } = start(profiler)
  await soon(() => said()[ONE.id] !== undefined)
  await vi.advanceTimersByTimeAsync(PROFILE_AGAIN_MS + 2 * PROFILE_CHECK_MS)
  expect(said()[TWO.id]).toBeUndefined()
  const before = running.begun
  state.freeBytes = takes
  await vi.advanceTimersByTimeAsync(PROFILE_CHECK_MS)
  await soon(() => said()[TWO.id] !== undefined)
  expect(running.begun).toBe(before + 1)
  stopping.abort()
  await started
})

test('who waits for the end waits for what is being written down', async () => {
  const writing = Promise.withResolvers<void>()
  const files = { ...nothing, write: () => writing.promise }
  const { profiler, said } = device([3], { held: [ONE], files })
  const { stopping, started } = start(profiler)
  await soon(() => said()[ONE.id] === 3)
  stopping.abort()
  let settled = false
  const end = profiler.settled().then(() => {
    settled = true
  })
  await settle()
  expect(settled).toBe(false)
  writing.resolve()
  await Promise.all([end, started])
})

test('one that could not be timed is no reason not to time the next', async () => {
  const { profiler, said } = device([])
  await expect(profiler.time(ONE)).rejects.toThrow('cannot be timed')
  await expect(profiler.time(TWO)).rejects.toThrow('cannot be timed')
  expect(said()).toEqual({})
})

describe('at the start', () => {
  test('the models that are held here are timed, and said where that is not possible', async () => {
    const { profiler, said } = device([3], { held: [ONE] })
    const { notices } = start(profiler)
    await soon(() => said()[ONE.id] !== undefined)
    expect([said(), notices]).toEqual([{ [ONE.id]: 3 }, []])
    const failing = device([], { held: [ONE] })
    const failed = start(failing.profiler)
    await soon(() => failed.notices.length > 0)
    expect(failed.notices).toEqual(['timing a model failed: the layers cannot be timed'])
  })

  test('and once more later, of which the faster time counts', async () => {
    const { profiler, said } = device([3, 4, 2, 9])
    start(profiler)
    await soon(() => said()[WIDE.id] !== undefined)
    await vi.advanceTimersByTimeAsync(PROFILE_AGAIN_MS)
    await soon(() => said()[ONE.id] === 2)
    await settle()
    expect(said()).toEqual({ [ONE.id]: 2, [WIDE.id]: 4 })
  })

  test('so is what stages take beside layers, as often', async () => {
    const { profiler, said, turns, state } = device([3, 3], { held: [ONE], turnsMs: [0.4, 0.3, 0.1] })
    state.busy = true
    start(profiler)
    await vi.advanceTimersByTimeAsync(20 * PROFILE_QUIET_MS)
    expect(turns()).toBeUndefined()
    state.busy = false
    await vi.advanceTimersByTimeAsync(PROFILE_QUIET_MS)
    await soon(() => said()[ONE.id] !== undefined)
    expect(turns()).toEqual({ turnMs: 0.4, sharedTurnMs: 0.2, startMs: 40 })
    await vi.advanceTimersByTimeAsync(PROFILE_AGAIN_MS)
    await soon(() => turns()?.turnMs === 0.3)
    await vi.advanceTimersByTimeAsync(3 * PROFILE_CHECK_MS)
    await settle()
    expect(turns()).toEqual({ turnMs: 0.3, sharedTurnMs: 0.15, startMs: 40 })
  })

  test('of another processor nothing is said that was timed on the one before', async () => {
    const { profiler, said, turns } = device([3, 3], { held: [ONE], turnsMs: [0.4] })
    const { stopping, started } = start(profiler)
    await soon(() => said()[ONE.id] !== undefined)
    stopping.abort()
    await started
    await profiler.processorChanged()
    expect([said(), turns()]).toEqual([{}, undefined])
  })

  test('nor what was under way when the other one came: it is timed anew', async () => {
    const changed = device([7, 3], { held: [ONE], turnsMs: [0.4, 0.9] })
    const { profiler, said, turns, slow, running } = changed
    slow.release = () => {}
    const { stopping, started } = start(profiler)
    await soon(() => running.begun === 1)
    expect(turns()?.turnMs).toBe(0.4)
    await profiler.processorChanged()
    const { release } = slow
    slow.release = undefined
    release!()
    await soon(() => said()[ONE.id] !== undefined)
    expect(said()[ONE.id]).toBe(3)
    await vi.advanceTimersByTimeAsync(PROFILE_AGAIN_MS)
    await soon(() => turns() !== undefined)
    // Not the shorter one, which the processor before took.
    expect(turns()?.turnMs).toBe(0.9)
    stopping.abort()
    await started
  })

  test('but not when the node has stopped', async () => {
    const stopped = device([3, 4, 1, 1])
    const { started: ended, stopping } = start(stopped.profiler)
    await soon(() => stopped.said()[WIDE.id] !== undefined)
    stopping.abort(new Error('the node is stopping'))
    expect(await ended).toBe('Error')
    expect(stopped.said()).toEqual({ [ONE.id]: 3, [WIDE.id]: 4 })
  })
})

describe('work goes before timing', () => {
  test('while answers are made nothing is timed; afterwards it is', async () => {
    const { profiler, said, state, running } = device([3], { held: [ONE] })
    state.busy = true
    start(profiler)
    await vi.advanceTimersByTimeAsync(20 * PROFILE_QUIET_MS)
    expect(running.begun).toBe(0)
    state.busy = false
    await vi.advanceTimersByTimeAsync(PROFILE_QUIET_MS)
    await soon(() => said()[ONE.id] === 3)
  })

  test('a timing that is under way ends for an answer, and is taken up again', async () => {
    const { profiler, said, state, running, slow } = device([3], { held: [ONE] })
    slow.release = () => {}
    start(profiler)
    await soon(() => running.begun === 1)
    state.busy = true
    await vi.advanceTimersByTimeAsync(PROFILE_QUIET_MS)
    await soon(() => running.now === 0)
    expect([running.ended, said()]).toEqual([0, {}])
    slow.release = undefined
    state.busy = false
    await vi.advanceTimersByTimeAsync(PROFILE_QUIET_MS)
    await soon(() => said()[ONE.id] === 3)
    expect(running.begun).toBe(2)
  })
})

describe('what an earlier run has found', () => {
  interface RunOptions {
    machine?: Machine
    threads?: number
  }

  /** A run of the node on `dir` that times each time of `decodeMs`, and then no more for a while. */
  async function run(dir: string, decodeMs: number[], { machine = MACHINE, threads = 2 }: RunOptions = {}) {
    const timings = decodeMs.length
    const found = device(decodeMs, { held: [ONE], files: new ProfileFiles(dir, () => machine), threads })
    const { stopping, started } = start(found.profiler)
    await soon(async () => {
      await vi.advanceTimersByTimeAsync(PROFILE_AGAIN_MS)
      return found.said()[ONE.id] !== undefined && found.running.ended >= timings
    })
    await vi.advanceTimersByTimeAsync(PROFILE_CHECK_MS)
    await settle()
    expect(found.running.begun).toBe(timings)
    const end = async () => {
      stopping.abort()
      await started
    }
    return { ...found, end, decodeMs }
  }

  test('is said at once, and not timed again', async () => {
    await using folder = await temporaryFolder()
    const first = await run(folder.path, [3, 4])
    await first.end()
    const second = await run(folder.path, [])
    expect([second.said(), second.running.begun]).toEqual([{ [ONE.id]: 3 }, 0])
    // Nor on demand, before the start has come to it.
    const third = device([], { held: [ONE], files: new ProfileFiles(folder.path, () => MACHINE) })
    await third.profiler.time(ONE)
    expect([third.said(), third.running.begun]).toEqual([{ [ONE.id]: 3 }, 0])
    await second.end()
  })

  test.each([
    ['processor', { machine: { ...MACHINE, processor: 'Q' } }],
    ['set of features', { machine: { ...MACHINE, features: 'avx2 avx512f' } }],
    ['ONNX Runtime', { machine: { ...MACHINE, runtimeVersion: '2' } }],
    ['number of threads', { threads: 3 }]
  ])('on another %s does not count', async (_, options) => {
    await using folder = await temporaryFolder()
    await (await run(folder.path, [3, 3])).end()
    const other = await run(folder.path, [5, 6], options)
    expect(other.said()).toEqual({ [ONE.id]: 5 })
    await other.end()
  })

  test('counts for a month, is used until it is renewed, and is renewed in the background', async () => {
    await using folder = await temporaryFolder()
    await (await run(folder.path, [3, 3])).end()
    vi.setSystemTime(START_MS + PROFILE_TERM_MS + PROFILE_CHECK_MS)
    const old = device([7], { held: [ONE], files: new ProfileFiles(folder.path, () => MACHINE) })
    old.state.busy = true
    const { stopping } = start(old.profiler)
    await soon(() => old.said()[ONE.id] === 3)
    old.state.busy = false
    await vi.advanceTimersByTimeAsync(PROFILE_QUIET_MS)
    await soon(() => old.said()[ONE.id] === 7)
    stopping.abort()
    // A clock that was ahead when it was timed.
    vi.setSystemTime(START_MS)
    const ahead = await run(folder.path, [8, 9])
    expect(ahead.said()).toEqual({ [ONE.id]: 8 })
    await ahead.end()
  })

  test('is renewed when answers contradict it, but not again and again', async () => {
    await using folder = await temporaryFolder()
    await (await run(folder.path, [3, 3])).end()
    const doubted = await run(folder.path, [])
    doubted.decodeMs.push(9, 9)
    doubted.state.doubted = true
    await vi.advanceTimersByTimeAsync(PROFILE_DOUBT_MS + PROFILE_CHECK_MS)
    await soon(() => doubted.said()[ONE.id] === 9)
    await settle()
    await vi.advanceTimersByTimeAsync(10 * PROFILE_CHECK_MS)
    expect(doubted.running.begun).toBe(1)
    await doubted.end()
  })
})

test('when another processor computes, what was said of the one before is taken back, and what is known of this one said', async () => {
  const files: ProfilerComponents['files'] = {
    read: async () => undefined,
    write: async () => {}
  }
  const { profiler, said } = device([3, 4], { files })
  await profiler.time(ONE)
  await profiler.time(WIDE)
  expect(said()).toEqual({ [ONE.id]: 3, [WIDE.id]: 4 })
  files.read = async ({ shape }) =>
    shape === ONE.manifest.shape
      ? { measuredAtMs: START_MS, profile: { embedding: times(9), decoder: times(9), head: times(9) } }
      : undefined
  await profiler.processorChanged()
  expect(said()).toMatchObject({ [ONE.id]: 9 })
  expect(said()[WIDE.id]).toBeUndefined()
})
