import { rm } from 'node:fs/promises'
import { totalmem } from 'node:os'
import { join } from 'node:path'
import { DEFAULT_MEMORY_SHARE } from './constants.ts'
import { RequestError } from './errors.ts'
import type { NodeInit } from './index.ts'
import { PrefixFiles } from './stage/prefix-files.ts'
import { formatBytes } from './units.ts'

/**
 * How the memory that a node was given is shared out between stages and what conversations had in KV caches.
 *
 * @throws {RequestError} where nothing would be left for stages, or files are to take what no memory is for
 */
export function memoryShares({
  memoryBytes = Math.floor(totalmem() * DEFAULT_MEMORY_SHARE),
  prefixCacheBytes = 0,
  prefixCacheDiskBytes = 0
}: Pick<NodeInit, 'memoryBytes' | 'prefixCacheBytes' | 'prefixCacheDiskBytes'>): {
  memoryBytes: number
  stageBytes: number
  prefixCacheBytes: number
} {
  if (prefixCacheDiskBytes > 0 && prefixCacheBytes === 0) {
    throw new RequestError(
      'prefixCacheDiskBytes is for what prefixCacheBytes has no room for, and that is 0: give both'
    )
  }
  if (prefixCacheBytes >= memoryBytes) {
    throw new RequestError(
      `a prefix cache of ${formatBytes(prefixCacheBytes)} leaves nothing of ${formatBytes(memoryBytes)} for stages`
    )
  }
  return { memoryBytes, stageBytes: memoryBytes - prefixCacheBytes, prefixCacheBytes }
}

/** The files for what has no room in memory. What an earlier process has left there is removed in any case: nobody can read it. */
export async function openPrefixFiles({
  home,
  prefixCacheDiskBytes = 0
}: Pick<NodeInit, 'home' | 'prefixCacheDiskBytes'>): Promise<PrefixFiles | undefined> {
  const dir = join(home, 'prefix-cache')
  if (prefixCacheDiskBytes > 0) return await PrefixFiles.open(dir, prefixCacheDiskBytes)
  await rm(dir, { recursive: true, force: true })
  return undefined
}
