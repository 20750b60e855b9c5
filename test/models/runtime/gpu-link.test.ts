import { afterEach, expect, test, vi } from 'vitest'
import { GpuLink } from '../../../models/runtime/gpu-link.ts'
import { GpuRuntime } from '../../../models/runtime/gpu-runtime.ts'
import type { ShardSpec } from '../../../models/runtime/runtime.ts'
import { randomModel } from '../../fixtures/random-model.ts'

afterEach(() => void vi.unstubAllEnvs())

/** Far longer than any process takes to start. */
const PATIENT_MS = 120_000

test('says that there is no GPU where there is none, and is asked again in vain', async () => {
  // The loader finds no driver, whatever this machine has.
  vi.stubEnv('VK_ICD_FILENAMES', '/nowhere/icd.json')
  vi.stubEnv('VK_DRIVER_FILES', '/nowhere/icd.json')
  const crashes: string[] = []
  const gpu = new GpuRuntime({ silenceMs: PATIENT_MS, onCrash: reason => crashes.push(reason) })
  await using model = await randomModel()
  const { manifest, blobsDir } = model
  for (let i = 0; i < 2; i++) {
    await expect(gpu.load({ manifest, range: [0, 1], blobsDir })).rejects.toMatchObject({
      name: 'GpuUnavailableError',
      code: 'gpu_unavailable'
    })
  }
  // That is no crash of a driver.
  expect(crashes).toEqual([])
  await gpu.stop()
})

test('kills a process that says nothing, rejects what is asked of it and tells of it once', async () => {
  const crashes: string[] = []
  const link = new GpuLink({ silenceMs: 1, onCrash: reason => crashes.push(reason) })
  const told = new Promise<Error>(resolve => link.watchers.add(resolve))
  const pending = link.call({ op: 'trim', session: 1, length: 0 })
  await expect(pending).rejects.toThrow('the process of the GPU ended: it said nothing for 0.001 s')
  await expect(link.online).rejects.toMatchObject({ code: 'runtime_stopped' })
  expect(await told).toBe(link.ended)
  expect(link.pid).toBeUndefined()
  await expect(link.call({ op: 'trim', session: 1, length: 0 })).rejects.toBe(link.ended)
  await link.stop()
  expect(crashes).toEqual(['it said nothing for 0.001 s'])
})

test('is no crash where it was told to end', async () => {
  const crashes: string[] = []
  const link = new GpuLink({ silenceMs: PATIENT_MS, onCrash: reason => crashes.push(reason) })
  await link.kill()
  expect(link.ended?.message).toBe('the runtime was stopped')
  expect(crashes).toEqual([])
})

test('ends where no process can be started, and does not wait for the exit of one', async () => {
  const { execPath } = process
  const crashes: string[] = []
  try {
    process.execPath = '/nowhere/node'
    const link = new GpuLink({ silenceMs: PATIENT_MS, onCrash: reason => crashes.push(reason) })
    await expect(link.call({ op: 'trim', session: 1, length: 0 })).rejects.toThrow('ENOENT')
    await link.stop()
    await link.kill()
  } finally {
    process.execPath = execPath
  }
  expect(crashes).toEqual([expect.stringContaining('ENOENT')])
})

test('gives a load as long as a slow disk takes for its weights', async () => {
  await using model = await randomModel()
  const { manifest, blobsDir } = model
  const layers = manifest.layers.map(layer => ({ ...layer, bytes: 1e9 }))
  const spec: ShardSpec = { manifest: { ...manifest, layers }, range: [0, 2], blobsDir }
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  const link = new GpuLink({ silenceMs: 1000 })
  try {
    const loading = link.call({ op: 'load', shard: 0, spec })
    loading.catch(() => undefined)
    vi.advanceTimersByTime(1000 + 199_999)
    expect(link.ended).toBeUndefined()
    vi.advanceTimersByTime(1)
    await expect(loading).rejects.toThrow('it said nothing for 201 s')
  } finally {
    vi.useRealTimers()
    await link.kill()
  }
})
