import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startRuntime } from '../../models/runtime/client.ts'
import { GpuRuntime } from '../../models/runtime/gpu-runtime.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { type RandomModel, randomModel } from '../fixtures/random-model.ts'
import { LocalStages } from '../fixtures/shards.ts'
import { adapterMissing } from './adapter.ts'

/** What a software adapter takes to compile shaders for the first run, on a machine with other load. */
const SILENCE_MS = deadlineMs(120_000)
const PROMPT = [5, 102]

const missing = await adapterMissing()
if (missing !== undefined) process.stdout.write(`the GPU is not tried: ${missing}\n`)

describe.skipIf(missing !== undefined)('a stage on the GPU', { timeout: 2 * SILENCE_MS }, () => {
  let gpu: GpuRuntime
  let cpu: Runtime
  let model: RandomModel
  const crashes: string[] = []

  beforeAll(async () => {
    gpu = new GpuRuntime({ silenceMs: SILENCE_MS, onCrash: reason => crashes.push(reason) })
    cpu = await startRuntime({ threads: 1 })
    model = await randomModel({ shape: { decoderLayers: 1 } })
  })
  afterAll(async () => {
    await Promise.all([gpu.stop(), cpu.stop(), model[Symbol.asyncDispose]()])
  })

  test('computes what the CPU does, and its process may be killed and started anew', async () => {
    await using here = await LocalStages.open(cpu, model)
    await using there = await LocalStages.open(gpu, model)
    const expected = await here.feed(PROMPT)
    const token = await there.feed(PROMPT)
    expect(token.id).toBe(expected.id)
    expect(token.logprob).toBeCloseTo(expected.logprob, 4)
    // A step back, which the KV cache there keeps, and the same again.
    await there.restart()
    expect(await there.feed(PROMPT)).toEqual(token)

    const ended = there.shards[0]!.ended
    process.kill(gpu.pid!, 'SIGKILL')
    await expect(there.feed([7])).rejects.toMatchObject({ code: 'runtime_stopped' })
    expect((await ended).message).toBe('the process of the GPU ended: SIGKILL')
    expect(crashes).toEqual(['SIGKILL'])
    await using again = await LocalStages.open(gpu, model)
    expect(again.sessions).toHaveLength(1)
    expect(gpu.pid).toBeDefined()
  })
})
