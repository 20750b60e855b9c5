import { expect, test } from 'vitest'
import {
  GpuUnavailableError,
  InferenceError,
  RuntimeInputError,
  RuntimeStoppedError
} from '../../../models/runtime/errors.ts'
import type { Shard, ShardSpec } from '../../../models/runtime/runtime.ts'
import { StageRuntime } from '../../../node/processor/stage-runtime.ts'

const SPEC = {} as ShardSpec

/** A runtime that says which processor loads, and a GPU that fails as it is told. */
function runtimes() {
  const loads: string[] = []
  const gpu: { error?: Error; refusal?: string } = {}
  const shard = (kind: string) => {
    loads.push(kind)
    return { kind } as unknown as Shard
  }
  const profile = () => Promise.reject(new Error('nothing is timed here'))
  const runtime = new StageRuntime(
    { load: async () => shard('cpu'), profile },
    {
      runtime: {
        profile,
        load: async () => {
          if (gpu.error !== undefined) throw gpu.error
          return shard('gpu')
        }
      },
      guard: {
        get refusal() {
          return gpu.refusal
        }
      }
    }
  )
  const changes: string[] = []
  runtime.events.on('change', () => changes.push(runtime.processor.kind))
  const notices: string[] = []
  runtime.events.on('notice', message => notices.push(message))
  return { runtime, gpu, loads, changes, notices }
}

test('loads on the GPU while it may be tried, and tells of every change', async () => {
  const { runtime, gpu, loads, changes } = runtimes()
  await runtime.load(SPEC)
  gpu.refusal = 'the GPU rests for 10 min after a crash'
  expect(runtime.processor).toEqual({ kind: 'cpu', reason: gpu.refusal })
  await runtime.load(SPEC)
  delete gpu.refusal
  await runtime.load(SPEC)
  expect(loads).toEqual(['gpu', 'cpu', 'gpu'])
  expect(changes).toEqual(['cpu', 'gpu'])
})

test('tells at once of a crash, not at the next load', () => {
  const { runtime, gpu, changes } = runtimes()
  gpu.refusal = 'the GPU rests for 10 min after a crash'
  runtime.note()
  expect(changes).toEqual(['cpu'])
})

test('loads on the CPU what the GPU fails with, and passes on what would fail there as well', async () => {
  const { runtime, gpu, loads } = runtimes()
  for (const error of [new RuntimeStoppedError('crashed'), new InferenceError('out of memory')]) {
    gpu.error = error
    await runtime.load(SPEC)
  }
  expect(loads).toEqual(['cpu', 'cpu'])
  gpu.error = new RuntimeInputError('no such range')
  await expect(runtime.load(SPEC)).rejects.toBe(gpu.error)
  gpu.error = new RuntimeStoppedError('crashed')
  const signal = AbortSignal.abort(new Error('nobody waits'))
  await expect(runtime.load(SPEC, { signal })).rejects.toThrow('nobody waits')
  expect(loads).toEqual(['cpu', 'cpu'])
})

test('does not look again for a GPU that is not there', async () => {
  const { runtime, gpu, loads, changes, notices } = runtimes()
  gpu.error = new GpuUnavailableError('no GPU can be used here')
  await runtime.load(SPEC)
  delete gpu.error
  await runtime.load(SPEC)
  expect(loads).toEqual(['cpu', 'cpu'])
  expect(changes).toEqual(['cpu'])
  expect(runtime.processor.reason).toBe('no GPU can be used here')
  // Who has asked for one hears of it once, and what to do.
  expect(notices).toEqual([
    expect.stringMatching(
      /^no GPU can be used here: layers are computed on the CPU; install .*edgeshard doctor/
    )
  ])
})

test('is the CPU alone where no GPU was chosen', async () => {
  const cpu = { load: async () => ({}) as Shard, profile: () => Promise.reject(new Error('not timed')) }
  const runtime = new StageRuntime(cpu, undefined)
  expect(runtime.processor).toEqual({ kind: 'cpu' })
})
