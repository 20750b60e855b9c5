import { readdir } from 'node:fs/promises'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type ProbeInit, probeGpu } from '../../../node/processor/probe.ts'
import { tryGpu } from '../../../node/processor/trial.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { randomModel } from '../../fixtures/random-model.ts'

/** Far longer than anything takes here. */
const PATIENT_MS = 600_000

let folder: Awaited<ReturnType<typeof temporaryFolder>>
let init: ProbeInit
beforeEach(async () => {
  folder = await temporaryFolder()
  // Where it keeps its weights: nothing of them is to be left.
  vi.stubEnv('TMPDIR', folder.path)
  vi.stubEnv('VK_ICD_FILENAMES', '/nowhere/icd.json')
  vi.stubEnv('VK_DRIVER_FILES', '/nowhere/icd.json')
  await using model = await randomModel({ shape: { decoderLayers: 1 } })
  const { shape } = model.manifest
  init = { shape, threads: 1, withinMs: PATIENT_MS, silenceMs: PATIENT_MS, mostBytes: 2 ** 20 }
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await folder[Symbol.asyncDispose]()
})

const left = async () => (await readdir(folder.path)).filter(name => name.startsWith('edgeshard-gpu-'))

test('a GPU that hangs while it is tried is a crash, and the verdict is for the CPU', async () => {
  const findings = await probeGpu({ ...init, silenceMs: 1 })
  expect(findings).toEqual({
    times: [],
    failure: 'its process ended (it said nothing for 0.001 s)',
    crashed: true
  })
  expect(await left()).toEqual([])
})

test('what takes too long is ended, and is no crash', async () => {
  const findings = await probeGpu({ ...init, withinMs: 1 })
  expect(findings).toMatchObject({ failure: 'it was not done within 0.001 s', crashed: false })
  expect(await left()).toEqual([])
})

test('told to stop, whenever that is, it ends at once and leaves nothing', async () => {
  const stopping = new Error('the node is stopping')
  await expect(probeGpu({ ...init, signal: AbortSignal.abort(stopping) })).rejects.toBe(stopping)
  const abort = new AbortController()
  const probing = probeGpu({ ...init, signal: abort.signal })
  abort.abort(stopping)
  await expect(probing).rejects.toBe(stopping)
  expect(await left()).toEqual([])
})

test('of a device without an adapter the verdict says so, and is remembered without a crash', async () => {
  const written: unknown[] = []
  const file = { write: async (state: unknown) => void written.push(state) }
  const subject = { name: 'tiny', shape: init.shape, threads: 1 }
  const { verdict } = await tryGpu({ file, driver: 'a driver', subject, mostBytes: 2 ** 20 })
  expect(verdict).toMatchObject({
    use: 'cpu',
    reason: expect.stringContaining('could not be tried: no GPU can be used here')
  })
  expect(written).toMatchObject([{ driver: 'a driver', crashes: [], probe: { verdict } }])
})
