import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { RequestError } from '../../node/errors.ts'
import { memoryShares, openPrefixFiles } from '../../node/prefix-room.ts'
import { temporaryFolder } from '../fixtures/folder.ts'

const MIB = 2 ** 20

test('what conversations had in KV caches takes its room from that of stages', () => {
  expect(memoryShares({ memoryBytes: 8 * MIB })).toMatchObject({ stageBytes: 8 * MIB, prefixCacheBytes: 0 })
  const shares = memoryShares({ memoryBytes: 8 * MIB, prefixCacheBytes: 3 * MIB, prefixCacheDiskBytes: 1 })
  expect(shares).toEqual({ memoryBytes: 8 * MIB, stageBytes: 5 * MIB, prefixCacheBytes: 3 * MIB })
})

test('room for it that leaves none for stages is refused, and so are files without it', () => {
  const all = () => memoryShares({ memoryBytes: 8 * MIB, prefixCacheBytes: 8 * MIB })
  expect(all).toThrow(RequestError)
  expect(all).toThrow('a prefix cache of 8.0 MiB leaves nothing of 8.0 MiB for stages')
  const files = () => memoryShares({ memoryBytes: 8 * MIB, prefixCacheDiskBytes: 1 })
  expect(files).toThrow(RequestError)
  expect(files).toThrow('prefixCacheBytes')
})

test('what an earlier process has left is removed, whether there are to be files or not', async () => {
  await using home = await temporaryFolder()
  const leave = async () => {
    await mkdir(join(home.path, 'prefix-cache'), { recursive: true })
    await writeFile(join(home.path, 'prefix-cache', '0'), 'old')
  }
  await leave()
  expect(await openPrefixFiles({ home: home.path })).toBeUndefined()
  expect(await readdir(home.path)).toEqual([])
  await leave()
  const files = await openPrefixFiles({ home: home.path, prefixCacheDiskBytes: MIB })
  expect(await readdir(join(home.path, 'prefix-cache'))).toEqual([])
  await files!.close()
  expect(await readdir(home.path)).toEqual([])
})
