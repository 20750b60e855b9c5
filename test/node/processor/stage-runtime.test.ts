import { expect, test } from 'vitest'
import {
  GpuUnavailableError,
  InferenceError,
  RuntimeInputError,
  RuntimeStoppedError
} from '../../../models/runtime/errors.ts'
import type { Shard, ShardSpec } from '../../../models/runtime/runtime.ts'
import { kindOf, type LayersKind } from '../../../node/processor/gpu-refusals.ts'
import { StageRuntime } from '../../../node/processor/stage-runtime.ts'

const SPEC = specOf('tiny')

/** A load of a model, of which no more is looked at here than its shape. */
function specOf(name: string): ShardSpec {
  return { manifest: { shape: { name }, layers: [] } } as unknown as ShardSpec
}

const nameOf = ({ shape }: LayersKind) => (shape as unknown as { name: string }).name

/** A runtime that says which processor loads, and a GPU that fails as it is told. */
function runtimes({ isForgotten = false } = {}) {
  const loads: string[] = []
  const gpu: { error?: Error; refusal?: string } = {}
  const refused = new Map<string, string>()
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
      },
      refusals: {
        reasonOf: kind => refused.get(nameOf(kind)),
        add: (kind, reason) => void refused.set(nameOf(kind), reason),
        forget: () => isForgotten
      }
    }
  )
  const changes: string[] = []
  runtime.events.on('change', () => changes.push(runtime.processor.kind))
  const notices: string[] = []
  runtime.events.on('notice', message => notices.push(message))
  return { runtime, gpu, loads, changes, notices, refused }
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
  const { runtime, gpu, loads, refused } = runtimes()
  for (const error of [new RuntimeStoppedError('crashed'), new InferenceError('out of memory')]) {
    gpu.error = error
    await runtime.load(SPEC)
  }
  expect(loads).toEqual(['cpu', 'cpu'])
  // A crash and want of memory are no word on the model.
  expect(refused.size).toBe(0)
  gpu.error = new RuntimeInputError('no such range')
  await expect(runtime.load(SPEC)).rejects.toBe(gpu.error)
  gpu.error = new RuntimeStoppedError('crashed')
  const signal = AbortSignal.abort(new Error('nobody waits'))
  await expect(runtime.load(SPEC, { signal })).rejects.toThrow('nobody waits')
  expect(loads).toEqual(['cpu', 'cpu'])
})

test('does not try layers again that the GPU has refused, and tells that their times are those of the CPU now', async () => {
  const { runtime, gpu, loads, changes, refused } = runtimes()
  gpu.error = new InferenceError('32 tokens in one step and in steps of 4 differ by 7.0 %')
  await runtime.load(SPEC)
  expect([...refused]).toEqual([['tiny', gpu.error.message]])
  // The device computes on its GPU still, but for that model.
  expect(changes).toEqual(['gpu'])
  expect(runtime.processorOf(kindOf(SPEC.manifest))).toBe('cpu')
  expect(runtime.processorOf(kindOf(specOf('other').manifest))).toBe('gpu')
  delete gpu.error
  await runtime.load(SPEC)
  await runtime.load(specOf('other'))
  expect(loads).toEqual(['cpu', 'cpu', 'gpu'])
})

test('times layers on the CPU once the GPU has refused them, also where it was timing them just then', async () => {
  const times = (ms: number) => ({ decoder: { decodeMs: ms } }) as never
  const load = () => Promise.reject(new Error('nothing is loaded here'))
  const timing = Promise.withResolvers<never>()
  const refused = new Set<string>()
  const runtime = new StageRuntime(
    { load, profile: async () => times(9) },
    {
      runtime: { load, profile: () => timing.promise },
      guard: { refusal: undefined },
      refusals: {
        reasonOf: kind => (refused.has(nameOf(kind)) ? 'it differs' : undefined),
        add: () => undefined,
        forget: kind => refused.delete(nameOf(kind))
      }
    }
  )
  const { shape } = SPEC.manifest
  const measured = runtime.profile(shape)
  refused.add('tiny')
  timing.resolve(times(1))
  expect(await measured).toEqual(times(9))
  expect(await runtime.profile(shape)).toEqual(times(9))
  expect(refused.has('tiny')).toBe(true)
})

test('tells of layers that the GPU takes again behind a refusal', async () => {
  const { changes, runtime } = runtimes({ isForgotten: true })
  await runtime.load(SPEC)
  expect(changes).toEqual(['gpu'])
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
