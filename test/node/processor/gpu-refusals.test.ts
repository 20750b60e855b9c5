import { expect, test } from 'vitest'
import { GpuFile, KEPT_REFUSALS } from '../../../node/processor/gpu-file.ts'
import { GPU_REFUSAL_MS, GpuRefusals } from '../../../node/processor/gpu-refusals.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { TINY_SHAPE } from '../../fixtures/random-model.ts'

const KIND = { shape: TINY_SHAPE }
const OTHER = { ...KIND, quantization: { bits: 4, blockSize: 32 } } as const

test('remembers over starts which layers a driver refuses, for the time that it says', async () => {
  await using folder = await temporaryFolder()
  const file = new GpuFile(folder.path)
  const notices: string[] = []
  const clock = { ms: 1e12 }
  const started = async (driver = 'a driver') =>
    new GpuRefusals({
      file,
      driver,
      threads: 1,
      refusals: (await file.read(driver)).refusals,
      onNotice: message => void notices.push(message),
      now: () => clock.ms
    })
  const first = await started()
  expect(first.reasonOf(KIND)).toBeUndefined()
  first.add(KIND, 'they differ by 7.0 %')
  first.add(KIND, 'they differ by 8.0 %')
  expect(first.reasonOf(KIND)).toBe('they differ by 8.0 %')
  // Other weights take other kernels.
  expect(first.reasonOf(OTHER)).toBeUndefined()
  expect(notices[0]).toMatch(
    /^the GPU does not compute these layers \(they differ by 7.0 %\): .* 24 h; .*--providers/
  )
  // Writing is behind what was asked before.
  await file.addCrash('a driver', { atMs: 0, reason: 'SIGSEGV' })
  expect(await file.read('a driver')).toMatchObject({
    crashes: [{ reason: 'SIGSEGV' }],
    refusals: [{ reason: 'they differ by 8.0 %' }]
  })
  const second = await started()
  clock.ms += GPU_REFUSAL_MS - 1
  expect(second.reasonOf(KIND)).toBe('they differ by 8.0 %')
  clock.ms += 1
  expect(second.reasonOf(KIND)).toBeUndefined()
  expect(second.forget(KIND)).toBe(true)
  expect(second.forget(KIND)).toBe(false)
  // By a clock that was ahead.
  clock.ms = 1
  expect((await started()).reasonOf(KIND)).toBeUndefined()
  clock.ms = 1e12
  expect((await started('a newer driver')).reasonOf(KIND)).toBeUndefined()
  // A trial forgets them.
  await file.write({ driver: 'a driver' })
  expect((await started()).reasonOf(KIND)).toBeUndefined()
})

test('remembers so many of them at most, the latest', async () => {
  await using folder = await temporaryFolder()
  const file = new GpuFile(folder.path)
  const init = { file, driver: 'a driver', threads: 1, refusals: [], onNotice: () => undefined }
  const refusals = new GpuRefusals(init)
  const kinds = Array.from({ length: KEPT_REFUSALS + 1 }, (_, i) => ({
    shape: { ...TINY_SHAPE, contextLength: 100 + i }
  }))
  for (const kind of kinds) refusals.add(kind, 'it differs')
  expect(kinds.map(kind => refusals.reasonOf(kind)).filter(reason => reason === undefined)).toHaveLength(1)
  expect(refusals.reasonOf(kinds[0]!)).toBeUndefined()
  // Writing is behind what was asked before.
  await file.addCrash('a driver', { atMs: 0, reason: 'SIGSEGV' })
  expect((await file.read('a driver')).refusals).toHaveLength(KEPT_REFUSALS)
})
