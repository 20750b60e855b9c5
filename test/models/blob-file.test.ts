import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { BlobWriter } from '../../models/store/blob-file.ts'
import { temporaryFolder } from '../fixtures/folder.ts'

const KIB = 1024

it('gathers small chunks before it writes them, and has them all in the end, in order, whatever their sizes', async () => {
  await using folder = await temporaryFolder()
  const writer = await BlobWriter.create(join(folder.path, 'blob'))
  const sizes = [1, 8 * KIB, 200 * KIB, 100 * KIB, 0, 700 * KIB, 3, 256 * KIB, 511 * KIB, 20 * KIB]
  const chunks = sizes.map((size, at) => new Uint8Array(size).fill(at + 1))
  const all = Buffer.concat(chunks)
  for (const chunk of chunks.slice(0, 2)) await writer.write(chunk)
  // What comes from a peer waits for no disk.
  expect((await stat(writer.path)).size).toBe(0)
  for (const chunk of chunks.slice(2)) {
    await writer.write(chunk)
    // Whoever sent it may use its memory again.
    chunk.fill(0)
  }
  const sha256 = createHash('sha256').update(all).digest('hex')
  expect(writer.ref()).toEqual({ sha256, bytes: all.byteLength })
  await writer.finish()
  expect((await readFile(writer.path)).equals(all)).toBe(true)
})

it('gives a file up in the middle of a write', async () => {
  await using folder = await temporaryFolder()
  const writer = await BlobWriter.create(join(folder.path, 'blob'))
  for (let i = 0; i < 40; i++) await writer.write(new Uint8Array(10 * KIB))
  await writer.abort()
  await expect(writer.finish()).rejects.toMatchObject({ name: 'StoreError' })
})
