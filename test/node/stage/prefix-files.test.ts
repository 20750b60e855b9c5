import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { SavedTokens } from '../../../models/runtime/saved-tokens.ts'
import { KEPT_FREE_BYTES } from '../../../node/constants.ts'
import { PrefixCache } from '../../../node/stage/prefix-cache.ts'
import { PrefixFiles } from '../../../node/stage/prefix-files.ts'
import { TINY_SHAPE } from '../../fixtures/random-model.ts'

let dir: string
beforeEach(async () => {
  dir = join(await mkdtemp(join(tmpdir(), 'edgeshard-prefixes-')), 'prefix-cache')
})
afterEach(() => rm(join(dir, '..'), { recursive: true, force: true }))

const FLOATS = 1000
/** Numbers that stand in no file as they are. */
function savedOf(seed: number, floats = FLOATS): SavedTokens {
  const memory = new Float32Array(new SharedArrayBuffer(4 * floats)).map((_, i) => seed + i)
  const shared = new Float32Array(new SharedArrayBuffer(4 * floats))
  shared.set(memory)
  return { tokens: 7, parts: [{ firsts: [3], memories: [shared, shared] }] }
}
const BYTES = 8 * FLOATS
const filesIn = async () => (await readdir(dir)).map(name => join(dir, name))

test('what was put is taken out as it was, once, from a file that only its owner may open and nobody can read', async () => {
  const files = await PrefixFiles.open(dir, 10 * BYTES)
  files.put('a 1', savedOf(5))
  await files.written
  const [path, ...others] = await filesIn()
  expect(others).toEqual([])
  const [bytes, { mode }] = [await readFile(path!), await stat(path!)]
  expect([bytes.length, files.heldBytes, mode & 0o777]).toEqual([BYTES, BYTES, 0o600])
  expect((await stat(dir)).mode & 0o777).toBe(0o700)
  expect(bytes.includes(Buffer.from(savedOf(5).parts[0]!.memories[0]!.buffer).subarray(0, 16))).toBe(false)
  expect(await files.take('a 1')).toEqual(savedOf(5))
  expect([await files.take('a 1'), files.heldBytes]).toEqual([undefined, 0])
})

test.each([
  ['changed', (bytes: Buffer) => bytes.fill(bytes[0]! ^ 1, 0, 1)],
  ['cut off', (bytes: Buffer) => bytes.subarray(0, BYTES - 1)]
])('a file that was %s is as if it were not there', async (_, change) => {
  const files = await PrefixFiles.open(dir, 10 * BYTES)
  files.put('a 1', savedOf(5))
  await files.written
  const [path] = await filesIn()
  await writeFile(path!, change(await readFile(path!)))
  expect(await files.take('a 1')).toBeUndefined()
})

test('holds no more than it may, and writes one thing at a time', async () => {
  const files = await PrefixFiles.open(dir, 2 * BYTES)
  for (const name of ['a 1', 'a 2', 'b 1']) {
    files.put(name, savedOf(1))
    // While that is written this one would wait in memory.
    files.put('late', savedOf(2))
    await files.written
    expect(files.heldBytes).toBeLessThanOrEqual(2 * BYTES)
  }
  files.put('large', savedOf(1, 3 * FLOATS))
  await files.written
  expect(await Promise.all(['a 1', 'late', 'large'].map(name => files.take(name)))).toEqual([
    undefined,
    undefined,
    undefined
  ])
  files.forgetAll('a ')
  expect(await files.take('a 2')).toBeUndefined()
  expect(await files.take('b 1')).toEqual(savedOf(1))
})

test('nothing is written of what the device itself needs of its disk', async () => {
  let free = KEPT_FREE_BYTES + BYTES
  const files = await PrefixFiles.open(dir, 10 * BYTES, async () => free)
  files.put('a 1', savedOf(5))
  await files.written
  free -= BYTES
  files.put('a 2', savedOf(6))
  await files.written
  expect([await files.take('a 2'), files.heldBytes, (await filesIn()).length]).toEqual([undefined, BYTES, 1])
  expect(await files.take('a 1')).toEqual(savedOf(5))
})

test('nothing is left when it is closed, nor of an earlier process', async () => {
  const files = await PrefixFiles.open(dir, 10 * BYTES)
  files.put('a 1', savedOf(5))
  await files.written
  const again = await PrefixFiles.open(dir, 10 * BYTES)
  expect(await filesIn()).toEqual([])
  again.put('a 1', savedOf(5))
  await again.close()
  await expect(readdir(dir)).rejects.toThrow('ENOENT')
})

test('what has no room in memory comes back from its file, within its lease', async () => {
  const files = await PrefixFiles.open(dir, 10 * BYTES)
  const cache = new PrefixCache({ bytes: BYTES, files })
  const range = { shape: TINY_SHAPE, range: [1, 2] as [number, number], frameTokens: 32 }
  const [a, b] = [cache.of('a', range)!, cache.of('b', range)!]
  for (const key of [0, 1]) {
    expect(cache.makeRoom('a', key, BYTES)).toBe(true)
    expect(a.put(key, savedOf(key))).toBe(true)
  }
  await files.written
  expect(files.heldBytes).toBe(BYTES)
  await expect(b.get(0)).rejects.toThrow('has made room')
  expect(await a.get(0)).toEqual(savedOf(0))
  await files.written
  // They have changed places.
  expect([cache.heldBytes, files.heldBytes]).toEqual([BYTES, BYTES])
  expect(await a.get(1)).toEqual(savedOf(1))
  await files.written
  a.close()
  expect([cache.heldBytes, files.heldBytes]).toEqual([0, 0])
})

test('what is read counts while it is read, and is not kept where its lease ends meanwhile', async () => {
  const files = await PrefixFiles.open(dir, 10 * BYTES)
  const cache = new PrefixCache({ bytes: BYTES, files })
  cache.makeRoom('a', 0, BYTES)
  cache.put('a', 0, savedOf(5))
  cache.makeRoom('b', 0, BYTES)
  cache.put('b', 0, undefined)
  await files.written
  expect([cache.heldBytes, files.heldBytes]).toEqual([0, BYTES])
  const reading = cache.get('a', 0)
  expect(cache.heldBytes).toBe(BYTES)
  cache.forget('a')
  expect(await reading).toEqual(savedOf(5))
  expect([cache.heldBytes, files.heldBytes]).toEqual([0, 0])
})
