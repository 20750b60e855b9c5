import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { SettledFiles } from '../../../../node/source/placement/settled-files.ts'

const HOUR_MS = 60 * 60_000
const profile = { decoder: { decodeMs: 1, prefillMsPerToken: 0.25 } }
const timed = { peerId: 'b', modelId: 'f'.repeat(64), borrowed: false }
const times = { single: 1.5, batched: 1.2, singleTurnMs: 3, batchedTurnMs: 6, wholeTurnMs: 5 }

let dir: string
let wallMs = 1e12
const read = () => SettledFiles.read({ dir, wallMs: () => wallMs })
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'edgeshard-settled-'))
})
afterEach(() => rm(dir, { recursive: true }))

test('what was settled is there after a restart, for the times that it is of', async () => {
  const before = await read()
  expect(before.usualTurnsMs).toBeUndefined()
  before.settle([{ timed, profile, times }], 0.7)
  before.settleLoad(timed.modelId, 3)
  await before.write()
  const after = await read()
  expect(after.of(timed, structuredClone(profile))).toEqual({ ...times, share: 1 })
  expect(after.hopOverheadMs).toBe(0.7)
  expect(after.usualTurnsMs).toEqual({ alone: 3, shared: 6 })
  expect(after.loadFactorOf(timed.modelId)).toBe(3)
  expect(after.loadFactorOf('e'.repeat(64))).toBeUndefined()
  expect(after.of({ ...timed, borrowed: true }, profile)).toBeUndefined()
  expect(after.of({ ...timed, modelId: 'e'.repeat(64) }, profile)).toBeUndefined()
  expect(after.of(timed, { decoder: { decodeMs: 2, prefillMsPerToken: 0.25 } })).toBeUndefined()
  expect(after.of(timed, undefined)).toBeUndefined()
})

test('what hardly anything but other work can be is not kept, whoever says it', async () => {
  const files = await read()
  files.settle(
    [
      {
        timed,
        profile,
        times: { single: 900, batched: 0.001, singleTurnMs: 1e9, batchedTurnMs: -1, wholeTurnMs: 1e9 }
      }
    ],
    1e9
  )
  const kept = { single: 2, batched: 0.5, singleTurnMs: 20, batchedTurnMs: 0, wholeTurnMs: 20 }
  expect(files.of(timed, profile)).toMatchObject(kept)
  expect(files.hopOverheadMs).toBe(3)
  files.settleLoad(timed.modelId, 1e9)
  expect(files.loadFactorOf(timed.modelId)).toBe(5)
})

test('it falls back to nothing with time, and is nothing where a clock was wrong', async () => {
  const files = await read()
  files.settle([{ timed, profile, times }], 0.7)
  wallMs += 6 * HOUR_MS
  const half = files.of(timed, profile)!
  expect(half.single).toBeCloseTo(Math.sqrt(1.5))
  expect(half.batchedTurnMs).toBeCloseTo(3)
  expect(half.share).toBeCloseTo(0.5)
  wallMs += 1000 * HOUR_MS
  expect(files.of(timed, profile)!.single).toBeCloseTo(1)
  expect(files.hopOverheadMs).toBeUndefined()
  wallMs -= 2000 * HOUR_MS
  expect(files.of(timed, profile)!.single).toBe(1)
})

test('a file that is damaged, or of another kind, is none', async () => {
  for (const text of ['{', '{"devices":[{"peerId":"b"}]}', '[]']) {
    await writeFile(join(dir, 'settled.json'), text)
    expect((await read()).of(timed, profile)).toBeUndefined()
  }
})

test('of many devices those are kept of which answers were last', async () => {
  const files = await read()
  for (let i = 0; i < 600; i++) files.settle([{ timed: { ...timed, peerId: `p${i}` }, profile, times }], 0.4)
  expect(files.of({ ...timed, peerId: 'p0' }, profile)).toBeUndefined()
  expect(files.of({ ...timed, peerId: 'p599' }, profile)).toEqual({ ...times, share: 1 })
  await files.write()
  expect((await read()).of({ ...timed, peerId: 'p599' }, profile)).toEqual({ ...times, share: 1 })
})

test('what was settled of one processor of a device is not of another one', async () => {
  const before = await read()
  const onCpu = { ...timed, processor: 'cpu' }
  before.settle([{ timed: onCpu, profile, times }], 0.7)
  await before.write()
  const after = await read()
  expect(after.of(onCpu, profile)).toEqual({ ...times, share: 1 })
  expect(after.of({ ...timed, processor: 'gpu' }, profile)).toBeUndefined()
  expect(after.of(timed, profile)).toBeUndefined()
})
