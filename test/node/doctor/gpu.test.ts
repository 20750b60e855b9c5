import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { checkGpu } from '../../../node/doctor/gpu.ts'
import { GpuFile } from '../../../node/processor/gpu-file.ts'
import { gpuPresence } from '../../../node/processor/gpu-presence.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'

beforeEach(() => void vi.stubEnv('VK_ICD_FILENAMES', '/opt/drivers/card.json'))
afterEach(() => void vi.unstubAllEnvs())

test('says what is known of a driver, its crashes too, and what to do', async ({ skip }) => {
  const presence = await gpuPresence()
  if (!presence.possible) return skip(presence.reason)
  await using folder = await temporaryFolder()
  const { driver } = presence
  const file = new GpuFile(folder.path)
  const found = async () => (await checkGpu(folder.path))[0]
  expect(await found()).toMatchObject({
    level: 'ok',
    found: expect.stringContaining("not tried yet, so 'up --device auto' takes the CPU"),
    advice: expect.stringContaining('profile --providers')
  })
  await file.addCrash(driver, { atMs: 1, reason: 'SIGKILL' })
  expect(await found()).toMatchObject({
    level: 'note',
    found: expect.stringContaining('crashes: 1, the last one with SIGKILL')
  })
  const verdict = { use: 'gpu', reason: 'the GPU is 3.0 times faster for tokens' } as const
  await file.write({
    driver,
    crashes: [],
    probe: { key: 'a', measuredAtMs: 0, model: 'tiny', times: [], verdict }
  })
  expect(await found()).toEqual({
    level: 'ok',
    check: 'gpu',
    found: `${driver}: the GPU is 3.0 times faster for tokens (tiny); 'up --device auto' takes the GPU`
  })
  await file.write({
    driver,
    crashes: [],
    probe: { key: 'a', measuredAtMs: 0, model: 'tiny', times: [], verdict, allocatableBytes: 10 * 2 ** 30 }
  })
  expect(await found()).toMatchObject({
    found: expect.stringMatching(
      /takes the GPU for stages of 8\.0 GiB, and the CPU beside it for what --memory is more$/
    )
  })
  await file.write({
    driver,
    crashes: [],
    probe: { key: 'a', measuredAtMs: 0, model: 'tiny', times: [], verdict }
  })
  await file.addRefusal(driver, { key: 'a', atMs: Date.now(), reason: 'they differ by 7.0 %' })
  await file.addRefusal(driver, { key: 'b', atMs: 0, reason: 'long ago' })
  expect(await found()).toMatchObject({
    level: 'note',
    found: expect.stringMatching(
      /takes the GPU; layers of a model are left to the CPU: they differ by 7\.0 %$/
    )
  })
  for (let i = 0; i < 3; i++) await file.addCrash(driver, { atMs: i, reason: 'SIGSEGV' })
  expect(await found()).toMatchObject({
    found: expect.stringMatching(/crashed 3 times.*left alone/),
    advice: expect.stringContaining('again')
  })
})
