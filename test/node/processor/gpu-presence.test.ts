import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { GpuFile } from '../../../node/processor/gpu-file.ts'
import { gpuPresence } from '../../../node/processor/gpu-presence.ts'
import { chosen } from '../../../node/processor/index.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'

const LINUX = { platform: 'linux', arch: 'x64' } as const

test('a driver is what the variables of the Vulkan loader name', async () => {
  const env = { VK_ICD_FILENAMES: '/opt/b.json:/opt/a.json', VK_DRIVER_FILES: '/opt/a.json' }
  expect(await gpuPresence(LINUX, env)).toEqual({ possible: true, driver: 'Vulkan: a.json, b.json' })
})

test('a driver is what lies in the folders of the Vulkan loader', async () => {
  await using folder = await temporaryFolder()
  const none = await gpuPresence(LINUX, { XDG_DATA_HOME: join(folder.path, 'nothing') })
  const drivers = join(folder.path, 'vulkan', 'icd.d')
  await mkdir(drivers, { recursive: true })
  await writeFile(join(drivers, 'card.json'), '{}')
  await writeFile(join(drivers, 'README'), 'no driver')
  const found = await gpuPresence(LINUX, { XDG_DATA_HOME: folder.path })
  expect(found).toMatchObject({ possible: true, driver: expect.stringContaining('card.json') })
  expect(found).not.toMatchObject({ driver: expect.stringContaining('README') })
  // What the machine of the test has besides is the same for both.
  if (!none.possible) expect(none.advice).toContain('Vulkan driver')
  if (!none.possible) expect(found).toEqual({ possible: true, driver: 'Vulkan: card.json' })
})

test('ONNX Runtime has no GPU provider for a Raspberry Pi, a Jetson and Intel Macs', async () => {
  for (const [platform, arch] of [
    ['linux', 'arm64'],
    ['darwin', 'x64']
  ] as const) {
    expect(await gpuPresence({ platform, arch }, { VK_ICD_FILENAMES: '/opt/a.json' })).toEqual({
      possible: false,
      reason: `ONNX Runtime has no GPU provider for ${platform} ${arch}`
    })
  }
  expect(await gpuPresence({ platform: 'win32', arch: 'x64' }, {})).toMatchObject({ possible: true })
  expect(await gpuPresence({ platform: 'darwin', arch: 'arm64' }, {})).toMatchObject({ possible: true })
})

test('auto takes what was measured, gpu what there is, and both the CPU where there is nothing', () => {
  const here = { possible: true, driver: 'a driver' } as const
  const none = { possible: false, reason: 'no Vulkan driver is installed' } as const
  const verdict = { use: 'gpu', reason: 'the GPU is 3.0 times faster for tokens' } as const
  const probe = { key: 'a', measuredAtMs: 0, model: 'a model', times: [], verdict }
  expect(chosen('auto', here, { probe, crashes: [] })).toEqual(verdict)
  expect(chosen('auto', here, { crashes: [] })).toEqual({
    use: 'cpu',
    reason: 'the GPU has not been tried yet'
  })
  const crashes = [{ atMs: 1, reason: 'SIGSEGV' }]
  expect(chosen('auto', here, { crashes })).toMatchObject({
    use: 'cpu',
    reason: expect.stringMatching(/crashed \(SIGSEGV\).*profile --providers/)
  })
  expect(chosen('gpu', here, { crashes: [] })).toMatchObject({ use: 'gpu' })
  for (const choice of ['auto', 'gpu'] as const) {
    expect(chosen(choice, none, { probe, crashes: [] })).toEqual({ use: 'cpu', reason: none.reason })
  }
})

test('what is known of another driver, and a damaged file, count for nothing', async () => {
  await using folder = await temporaryFolder()
  const file = new GpuFile(folder.path)
  expect(await file.read('a driver')).toEqual({ driver: 'a driver', crashes: [], refusals: [] })
  const state = { driver: 'a driver', crashes: [{ atMs: 5, reason: 'SIGSEGV' }] }
  await file.write(state)
  expect(await file.read('a driver')).toEqual({ ...state, refusals: [] })
  expect(await file.read('a newer driver')).toEqual({ driver: 'a newer driver', crashes: [], refusals: [] })
  await writeFile(join(folder.path, 'gpu.json'), '{"crashes": 3')
  expect(await file.read('a driver')).toEqual({ driver: 'a driver', crashes: [], refusals: [] })
})

test('a crash is remembered beside what another program has found since, and crashes at once beside each other', async () => {
  await using folder = await temporaryFolder()
  const file = new GpuFile(folder.path)
  const verdict = { use: 'cpu', reason: 'slower' } as const
  const probe = { key: 'a', measuredAtMs: 0, model: 'a model', times: [], verdict }
  await new GpuFile(folder.path).write({ driver: 'a driver', crashes: [], probe })
  const crash = (atMs: number) => ({ atMs, reason: 'SIGSEGV' })
  await Promise.all([1, 2, 3].map(atMs => file.addCrash('a driver', crash(atMs))))
  expect(await file.read('a driver')).toEqual({
    driver: 'a driver',
    crashes: [1, 2, 3].map(crash),
    refusals: [],
    probe
  })
})

test('what a file says is short and without control characters when it is shown', async () => {
  await using folder = await temporaryFolder()
  const reason = `\u001b[2J${'x'.repeat(5000)}`
  await writeFile(
    join(folder.path, 'gpu.json'),
    JSON.stringify({ driver: 'a driver', crashes: [{ atMs: 1, reason }] })
  )
  const { crashes } = await new GpuFile(folder.path).read('a driver')
  expect(crashes[0]?.reason).toMatch(/^ \[2Jx+…$/)
  expect(crashes[0]?.reason.length).toBe(200)
})
