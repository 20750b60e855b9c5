import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { LayerTimes } from '../../../models/runtime/runtime.ts'
import type { NodeRecord } from '../../../node/api.ts'
import { PROFILE_AGAIN_MS } from '../../../node/constants.ts'
import { Profiler, type ProfilerComponents } from '../../../node/profile/profiler.ts'
import { settle } from '../simulation/clock.ts'
import { simulatedModel } from '../simulation/mesh.ts'

const [ONE, TWO] = [simulatedModel('one'), simulatedModel('two')]
const times = (decodeMs: number): LayerTimes => ({
  decodeMs,
  decodeMsByBatch: {},
  prefillMsPerToken: decodeMs
})

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

/** A device that takes so long for a layer, one time after the other, and holds these models. */
function device(decodeMs: number[], held = [ONE, TWO]) {
  let self = {
    models: held.map(({ id, name }) => ({ id, name, layers: [[0, 5]] })),
    profiles: {}
  } as unknown as NodeRecord
  const sessions = { open: 0 }
  const running = { now: 0, most: 0 }
  const components: ProfilerComponents = {
    runtime: {
      profile: async () => {
        running.most = Math.max(running.most, ++running.now)
        await settle()
        running.now--
        const ms = decodeMs.shift()
        if (ms === undefined) throw new Error('the layers cannot be timed')
        return { embedding: times(ms), decoder: times(ms), head: times(ms) }
      }
    },
    store: { held: async () => [TWO, ONE] },
    mesh: {
      get self() {
        return self
      },
      update: change => {
        self = { ...self, ...change }
      }
    },
    sessions
  }
  const said = () =>
    Object.fromEntries(Object.entries(self.profiles).map(([id, { decoder }]) => [id, decoder!.decodeMs]))
  return { profiler: new Profiler(components), said, sessions, running }
}

test('a model is timed once, one after the other, whoever asks', async () => {
  const { profiler, said, running } = device([3, 4])
  await Promise.all([profiler.time(ONE), profiler.time(TWO), profiler.time(ONE)])
  await profiler.time(TWO)
  expect(said()).toEqual({ [ONE.id]: 3, [TWO.id]: 4 })
  expect(running.most).toBe(1)
})

test('one that could not be timed is no reason not to time the next', async () => {
  const { profiler, said } = device([])
  await expect(profiler.time(ONE)).rejects.toThrow('cannot be timed')
  await expect(profiler.time(TWO)).rejects.toThrow('cannot be timed')
  expect(said()).toEqual({})
})

describe('at the start', () => {
  const start = (profiler: Profiler) => {
    const notices: string[] = []
    const stopping = new AbortController()
    const onNotice = (message: string) => void notices.push(message)
    const started = profiler.start({ signal: stopping.signal, onNotice }).catch((error: Error) => error.name)
    return { started, notices, stopping }
  }

  test('the models that are held here are timed, and said where that is not possible', async () => {
    const { profiler, said } = device([3], [ONE])
    const { notices } = start(profiler)
    await vi.waitUntil(() => said()[ONE.id] !== undefined)
    expect([said(), notices]).toEqual([{ [ONE.id]: 3 }, []])
    const failing = device([], [ONE])
    const failed = start(failing.profiler)
    await vi.waitUntil(() => failed.notices.length > 0)
    expect(failed.notices).toEqual(['timing a model failed: the layers cannot be timed'])
  })

  test('and once more later, of which the faster time counts', async () => {
    const { profiler, said } = device([3, 4, 2, 9])
    start(profiler)
    await vi.waitUntil(() => said()[TWO.id] !== undefined)
    await vi.advanceTimersByTimeAsync(PROFILE_AGAIN_MS)
    await vi.waitUntil(() => said()[ONE.id] === 2)
    await settle()
    expect(said()).toEqual({ [ONE.id]: 2, [TWO.id]: 4 })
  })

  test('but not while answers run, nor when the node has stopped', async () => {
    const busy = device([3, 4, 1, 1])
    const { started } = start(busy.profiler)
    await vi.waitUntil(() => busy.said()[TWO.id] !== undefined)
    busy.sessions.open = 1
    await vi.advanceTimersByTimeAsync(PROFILE_AGAIN_MS)
    await started
    expect(busy.said()).toEqual({ [ONE.id]: 3, [TWO.id]: 4 })
    const stopped = device([3, 4, 1, 1])
    const { started: ended, stopping } = start(stopped.profiler)
    await vi.waitUntil(() => stopped.said()[TWO.id] !== undefined)
    stopping.abort(new Error('the node is stopping'))
    expect(await ended).toBe('Error')
    expect(stopped.said()).toEqual({ [ONE.id]: 3, [TWO.id]: 4 })
  })
})
