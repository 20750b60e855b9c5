import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ProfileFiles } from '../../../node/profile/profile-files.ts'
import {
  type Machine,
  type ProfileSubject,
  profileKey,
  timedGraph
} from '../../../node/profile/profile-key.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { TINY_SHAPE } from '../../fixtures/random-model.ts'

const SUBJECT: ProfileSubject = { shape: TINY_SHAPE, quantization: { bits: 4, blockSize: 32 }, threads: 2 }
const MACHINE: Machine = { processor: 'P', features: 'avx2', arch: 'x64', runtimeVersion: '1' }
const TIMES = { decodeMs: 1, decodeMsByBatch: { 1: 1, 2: 1.5 }, prefillMsPerToken: 0.25 }
const REMEMBERED = { measuredAtMs: 12, profile: { embedding: TIMES, decoder: TIMES, head: TIMES } }

test('what was written is read again, also by another run', async () => {
  await using folder = await temporaryFolder()
  const dir = join(folder.path, 'profiles')
  expect(await new ProfileFiles(dir).read(SUBJECT)).toBeUndefined()
  await new ProfileFiles(dir).write(SUBJECT, REMEMBERED)
  expect(await new ProfileFiles(dir).read(SUBJECT)).toEqual(REMEMBERED)
  expect(await readdir(dir)).toEqual([`layers-${profileKey(SUBJECT)}.json`])
})

const changed = (change: object) => JSON.stringify({ ...REMEMBERED, ...change })
test.each([
  ['nothing', ''],
  ['half of it', changed({}).slice(0, 60)],
  ['no object', '[1, 2]'],
  ['a time below zero', changed({ profile: { ...REMEMBERED.profile, head: { ...TIMES, decodeMs: -1 } } })],
  [
    'a time that is no number',
    changed({ profile: { ...REMEMBERED.profile, head: { ...TIMES, decodeMs: '1' } } })
  ],
  ['too few kinds of layers', changed({ profile: { head: TIMES } })],
  ['no time of measuring', changed({ measuredAtMs: null })],
  ['more than it can be', changed({ note: 'x'.repeat(70_000) })],
  ['something binary', '\u0000\ufffd\u0001']
])('a file with %s in it is passed over, and replaced', async (_, text) => {
  await using folder = await temporaryFolder()
  const files = new ProfileFiles(folder.path, () => MACHINE)
  await writeFile(join(folder.path, `layers-${profileKey(SUBJECT, MACHINE)}.json`), text)
  expect(await files.read(SUBJECT)).toBeUndefined()
  await files.write(SUBJECT, REMEMBERED)
  expect(await files.read(SUBJECT)).toEqual(REMEMBERED)
})

test('what a file says beyond times of layers is left out', async () => {
  await using folder = await temporaryFolder()
  const files = new ProfileFiles(folder.path, () => MACHINE)
  const more = changed({ profile: { ...REMEMBERED.profile, other: TIMES }, note: 1 })
  await writeFile(join(folder.path, `layers-${profileKey(SUBJECT, MACHINE)}.json`), more)
  expect(await files.read(SUBJECT)).toEqual(REMEMBERED)
})

test('a home that cannot be written to costs the memory, not the node', async () => {
  await using folder = await temporaryFolder()
  await writeFile(join(folder.path, 'profiles'), 'a file where the folder should be')
  const files = new ProfileFiles(join(folder.path, 'profiles'), () => MACHINE)
  await files.write(SUBJECT, REMEMBERED)
  expect(await files.read(SUBJECT)).toBeUndefined()
})

test('all that times hang on makes another key', () => {
  const keys = [
    profileKey(SUBJECT, MACHINE),
    profileKey({ ...SUBJECT, threads: 1 }, MACHINE),
    profileKey({ ...SUBJECT, quantization: undefined }, MACHINE),
    profileKey({ ...SUBJECT, quantization: { bits: 4, blockSize: 16 } }, MACHINE),
    profileKey({ ...SUBJECT, shape: { ...TINY_SHAPE, decoderLayers: 4 } }, MACHINE),
    ...(['processor', 'features', 'arch', 'runtimeVersion'] as const).map(part =>
      profileKey(SUBJECT, { ...MACHINE, [part]: 'other' })
    )
  ]
  expect(new Set(keys).size).toBe(keys.length)
  expect(profileKey({ ...SUBJECT }, { ...MACHINE })).toBe(keys[0])
})

test('times are of the graph that computes long contexts, where a model has them', () => {
  const inputs = (contextLength: number) =>
    timedGraph({ shape: { ...TINY_SHAPE, contextLength } }).inputs.map(({ name }) => name)
  expect(inputs(2048)).toContain('grouped_rows')
  expect(inputs(512)).not.toContain('grouped_rows')
})
