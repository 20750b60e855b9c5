import { afterEach, expect, test, vi } from 'vitest'
import type { GpuState } from '../../../node/processor/gpu-file.ts'
import { GPU_REST_MS, GpuGuard, MAX_GPU_CRASHES } from '../../../node/processor/gpu-guard.ts'

afterEach(() => void vi.useRealTimers())

function guarded(crashes: GpuState['crashes'] = []) {
  const written: unknown[] = []
  const notices: string[] = []
  const clock = { ms: 0 }
  const file = {
    addCrash: async (driver: string, crash: GpuState['crashes'][number]) =>
      void written.push({ driver, crash })
  }
  const onNotice = (message: string) => void notices.push(message)
  const rested: (string | undefined)[] = []
  const guard = new GpuGuard({
    ...{ file, driver: 'a driver', crashes, now: () => clock.ms, onNotice },
    onRested: () => void rested.push(guard.refusal)
  })
  return { guard, written, notices, clock, rested }
}

test('leaves a GPU alone for a while after a crash, says so, and remembers it', () => {
  const { guard, written, notices, clock } = guarded()
  expect(guard.refusal).toBeUndefined()
  guard.crashed('SIGSEGV')
  expect(guard.refusal).toBe('the GPU rests for 10 min after a crash')
  expect(notices).toEqual([
    'the process of the GPU ended (SIGSEGV): layers are computed on the CPU for the next 10 min'
  ])
  expect(written).toMatchObject([{ driver: 'a driver', crash: { reason: 'SIGSEGV' } }])
  clock.ms = GPU_REST_MS - 1
  expect(guard.refusal).toBe('the GPU rests for 1 min after a crash')
  clock.ms = GPU_REST_MS
  expect(guard.refusal).toBeUndefined()
})

test('tells when it may be tried again, by itself: what is granted until then is meant for the CPU', () => {
  vi.useFakeTimers()
  const { guard, clock, rested } = guarded()
  const pass = (ms: number) => {
    clock.ms += ms
    vi.advanceTimersByTime(ms)
  }
  guard.crashed('SIGSEGV')
  pass(GPU_REST_MS / 2)
  guard.crashed('SIGSEGV')
  pass(GPU_REST_MS / 2 + 1000)
  expect(rested).toEqual([])
  pass(GPU_REST_MS / 2)
  expect(rested).toEqual([undefined])
  const stopped = guarded()
  stopped.guard.crashed('SIGSEGV')
  stopped.guard.stop()
  vi.advanceTimersByTime(2 * GPU_REST_MS)
  expect(stopped.rested).toEqual([])
})

test('does not try a driver again that has crashed three times, also in earlier runs, until told', () => {
  const before = Array.from({ length: MAX_GPU_CRASHES - 1 }, () => ({ atMs: 1, reason: 'SIGABRT' }))
  const { guard, notices, clock } = guarded(before)
  expect(guard.refusal).toBeUndefined()
  guard.crashed('it said nothing for 120 s')
  clock.ms = 100 * GPU_REST_MS
  expect(guard.refusal).toMatch(/crashed 3 times, the last time with it said nothing.*profile --providers/)
  expect(notices.at(-1)).toContain('not tried again until')
  expect(guarded([...before, { atMs: 2, reason: 'SIGSEGV' }]).guard.refusal).toContain('crashed 3 times')
})
