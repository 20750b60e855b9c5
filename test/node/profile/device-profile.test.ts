import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import type { DetailedTimes } from '../../../models/runtime/runtime.ts'
import { parseScenario } from '../../../node/plan/index.ts'
import { deviceProfile } from '../../../node/profile/device-profile.ts'
import type { ProfileSubject } from '../../../node/profile/profile-key.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { TINY_SHAPE } from '../../fixtures/random-model.ts'

const TIMES: DetailedTimes = {
  decodeMs: 1.000049,
  decodeMsPerExtraSequence: 0.5,
  decodeMsByBatch: { 1: 1, 8: 4.5 },
  prefillMsPerToken: 0.25,
  prefillMsByTokens: { 1: 1, 32: 8 },
  decodeMsByContext: { 32: 1, 127: 2 }
}
const SUBJECT: ProfileSubject = { shape: TINY_SHAPE, quantization: { bits: 4, blockSize: 32 }, threads: 2 }

function counted() {
  const counter = { calls: 0 }
  const measure = async () => {
    counter.calls++
    return { embedding: TIMES, decoder: TIMES, head: TIMES }
  }
  return { counter, measure }
}

it('measures once for a shape, a precision and a number of threads', async () => {
  await using folder = await temporaryFolder()
  const { counter, measure } = counted()
  const first = await deviceProfile(SUBJECT, folder.path, false, measure)
  expect(await deviceProfile(SUBJECT, folder.path, false, measure)).toEqual(first)
  expect(counter.calls).toBe(1)
  await deviceProfile({ ...SUBJECT, threads: 1 }, folder.path, false, measure)
  await deviceProfile({ ...SUBJECT, quantization: undefined }, folder.path, false, measure)
  await deviceProfile({ ...SUBJECT, shape: { ...TINY_SHAPE, ffnSize: 128 } }, folder.path, false, measure)
  expect(counter.calls).toBe(4)
  await deviceProfile(SUBJECT, folder.path, true, measure)
  expect(counter.calls).toBe(5)
})

it('measures again where what it remembers is damaged', async () => {
  await using folder = await temporaryFolder()
  const { counter, measure } = counted()
  const first = await deviceProfile(SUBJECT, folder.path, false, measure)
  const [file] = await readdir(folder.path)
  for (const text of ['', '{"embedding":', '{"embedding":{"decodeMs":-1}}']) {
    await writeFile(join(folder.path, file!), text)
    expect(await deviceProfile(SUBJECT, folder.path, false, measure)).toEqual(first)
  }
  expect(counter.calls).toBe(4)
})

it("is an entry of a scenario's profiles, with the sizes of its layers", async () => {
  await using folder = await temporaryFolder()
  const profile = await deviceProfile(SUBJECT, folder.path, false, counted().measure)
  expect(profile.decoder.decodeMs).toBe(1)
  // Keys and values of 2 heads of 16, in float32.
  expect(profile.decoder.kvBytesPerToken).toBe(2 * 2 * 16 * 4)
  expect(profile.decoder.activationBytes).toBe(64 * 4)
  expect(profile.head.activationBytes).toBe(4)
  // 160 rows of two blocks: 16 bytes and a float32 scale each.
  expect(profile.embedding.weightBytes).toBe(160 * 2 * (16 + 4))
  const layers = (['embedding', 'decoder', 'head'] as const).map(kind => {
    const { weightBytes, activationBytes, kvBytesPerToken } = profile[kind]
    return { kind, weightBytes, activationBytes, kvBytesPerToken }
  })
  const problem = parseScenario({
    devices: [{ id: 'a', memoryBytes: 1e9, profile: 'mine' }],
    source: 'a',
    links: {},
    model: { name: 'tiny', layers },
    profiles: { mine: profile },
    workload: { promptTokens: 32, newTokens: 96, batch: 1, contextTokens: 128 }
  })
  expect(problem.layers).toHaveLength(3)
})
