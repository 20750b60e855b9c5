import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type HubOptions, readRemote } from './client.ts'
import { DownloadError, RepositoryError } from './errors.ts'
import { POOLING_CARD, type RemoteFile, type Repository } from './repository.ts'

/** No byte for so long ends an attempt. */
const STALL_MS = 60_000
/** Attempts in a row that bring nothing before a download is given up. */
const ATTEMPTS = 5
const RETRY_MS = 1_000

export interface DownloadOptions extends HubOptions {
  onProgress?: (bytesDone: number, bytes: number) => void
}

/**
 * Brings files of a repository into a folder. What an earlier call has left is continued, a broken connection is taken up
 * again, and no file gets its name before its hash is right.
 *
 * @throws {DownloadError} when the hub cannot be reached or sends other bytes; {RepositoryError} when it refuses.
 */
export async function downloadFiles(
  repository: Repository,
  files: RemoteFile[],
  dir: string,
  options: DownloadOptions = {}
): Promise<void> {
  await mkdir(dir, { recursive: true })
  const total = files.reduce((sum, file) => sum + file.bytes, 0)
  let before = 0
  for (const file of files) {
    const report = (bytes: number) => options.onProgress?.(before + bytes, total)
    await downloadOne(repository, file, dir, report, options)
    before += file.bytes
    report(0)
  }
}

/** Whether a file is there already, in the version that is listed: another may have the same size. */
async function isComplete(path: string, file: RemoteFile): Promise<boolean> {
  if ((await sizeOf(path)) !== file.bytes) return false
  const hash = hashOf(file)
  await hashExisting(path, hash)
  return hash.digest('hex') === file.hash.hex
}

/** Removes what an earlier download has left in a folder, but for what `keep` says: it would become part of the model. */
export async function removeOthers(dir: string, keep: (name: string) => boolean): Promise<void> {
  for (const name of await readdir(dir)) {
    if (!keep(name)) await rm(join(dir, name), { recursive: true, force: true })
  }
}

/** Where a file comes to lie: folders of the repository are left behind, but for that of the pooling card. */
export function localPath(dir: string, file: RemoteFile): string {
  if (file.path === POOLING_CARD) return join(dir, file.path)
  return join(dir, basename(file.path))
}

async function downloadOne(
  repository: Repository,
  file: RemoteFile,
  dir: string,
  report: (bytes: number) => void,
  options: DownloadOptions
): Promise<void> {
  const path = localPath(dir, file)
  if (await isComplete(path, file)) return
  await mkdir(dirname(path), { recursive: true })
  // Named by its hash too: the rest of another version would not fit the beginning.
  const part = `${path}.${file.hash.hex.slice(0, 16)}.part`
  let failures = 0
  for (;;) {
    options.signal?.throwIfAborted()
    const start = (await sizeOf(part)) ?? 0
    try {
      await continueFile(repository, file, part, report, options)
      await rename(part, path)
      return
    } catch (error) {
      if (options.signal?.aborted || error instanceof RepositoryError || error instanceof DownloadError)
        throw error
      failures = ((await sizeOf(part)) ?? 0) > start ? 0 : failures + 1
      if (failures >= ATTEMPTS) {
        const { message } = error as Error
        throw new DownloadError(`${file.path} of ${repository.name} could not be downloaded: ${message}`, {
          cause: error
        })
      }
      await sleep((options.retryMs ?? RETRY_MS) * 2 ** failures, undefined, { signal: options.signal })
    }
  }
}

async function continueFile(
  repository: Repository,
  file: RemoteFile,
  part: string,
  report: (bytes: number) => void,
  options: DownloadOptions
): Promise<void> {
  const hash = hashOf(file)
  const handle = await open(part, 'a')
  try {
    let bytes = await hashExisting(part, hash)
    report(bytes)
    if (bytes < file.bytes) {
      for await (const chunk of untilStall(repository, file, bytes, options)) {
        bytes += chunk.byteLength
        if (bytes > file.bytes) break
        await appendAll(handle, chunk)
        hash.update(chunk)
        report(bytes)
      }
    }
    if (bytes < file.bytes) throw new Error(`the connection ended after ${bytes} of ${file.bytes} bytes`)
    if (bytes > file.bytes || hash.digest('hex') !== file.hash.hex) {
      await rm(part, { force: true })
      throw new DownloadError(
        `${file.path} of ${repository.name} is not what the hub lists (its hash differs); it was thrown away, try again`
      )
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Chunks of a file, as long as there is one every minute. */
async function* untilStall(
  repository: Repository,
  file: RemoteFile,
  start: number,
  options: DownloadOptions
): AsyncGenerator<Uint8Array> {
  const stalled = new AbortController()
  const stall = () => stalled.abort(new Error(`nothing came for ${STALL_MS / 1000} s`))
  let timer = setTimeout(stall, STALL_MS)
  const signal =
    options.signal === undefined ? stalled.signal : AbortSignal.any([options.signal, stalled.signal])
  try {
    const range = [start, file.bytes] as const
    // Every attempt has its own patience; a server that is busy is waited for, but not while a stall is counted.
    const onWait: HubOptions['onWait'] = (status, waitMs) => {
      clearTimeout(timer)
      options.onWait?.(status, waitMs)
      timer = setTimeout(stall, waitMs + STALL_MS)
    }
    for await (const chunk of readRemote(repository, file.path, range, { ...options, signal, onWait })) {
      clearTimeout(timer)
      yield chunk
      timer = setTimeout(stall, STALL_MS)
    }
  } finally {
    clearTimeout(timer)
    // A reader that stops early leaves no request behind.
    stalled.abort()
  }
}

/** Git's name of a file is the SHA-1 of a short header and its bytes. */
function hashOf({ hash, bytes }: RemoteFile): Hash {
  return hash.algorithm === 'sha256' ? createHash('sha256') : createHash('sha1').update(`blob ${bytes}\0`)
}

async function hashExisting(path: string, hash: Hash): Promise<number> {
  let bytes = 0
  for await (const chunk of createReadStream(path)) {
    hash.update(chunk as Uint8Array)
    bytes += (chunk as Uint8Array).byteLength
  }
  return bytes
}

async function appendAll(handle: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let done = 0; done < chunk.byteLength; ) done += (await handle.write(chunk, done)).bytesWritten
}

async function sizeOf(path: string): Promise<number | undefined> {
  return (await stat(path).catch(() => undefined))?.size
}
