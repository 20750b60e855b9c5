import { type FileHandle, open, readFile, stat } from 'node:fs/promises'
import { CheckpointError } from '../errors.ts'
import { parsePythonJson } from './python-json.ts'

/** What a file was when it was looked at: another answer later means that somebody wrote to it, or replaced it. */
export async function identityOf(path: string): Promise<string | undefined> {
  const found = await stat(path, { bigint: true }).catch(() => undefined)
  return found && `${found.ino}:${found.size}:${found.mtimeNs}`
}

/** Bytes that tell a file from what is often found in its place. */
export const TELLTALE_BYTES = 64

/** What stands in the place of a file that begins with `bytes`, as part of a sentence; undefined where nothing does. */
export function standIn(bytes: Uint8Array): string | undefined {
  const text = new TextDecoder('latin1').decode(bytes.subarray(0, TELLTALE_BYTES))
  if (text.startsWith('version https://git-lfs')) {
    return 'is a git-lfs pointer, not the file that it stands for: run "git lfs pull" in its folder'
  }
  if (/^\s*<(!doctype html|html|head)/i.test(text)) {
    return 'is an HTML page, not the file that its name says: it was saved from a web site, download it again'
  }
  return undefined
}

/** The first bytes of a file, as many as tell what it is. */
export async function startOf(path: string): Promise<Uint8Array> {
  const handle = await openFile(path)
  try {
    const { bytesRead, buffer } = await handle.read(new Uint8Array(TELLTALE_BYTES), 0, TELLTALE_BYTES, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await handle.close()
  }
}

/** Opens a file for reading; folders and devices are no files. */
export async function openFile(path: string): Promise<FileHandle> {
  const handle = await open(path, 'r').catch(error => {
    throw new CheckpointError(path, `cannot be read (${(error as NodeJS.ErrnoException).code ?? error})`, {
      cause: error
    })
  })
  const found = await handle.stat()
  if (found.isFile()) return handle
  await handle.close()
  throw new CheckpointError(path, 'is not a file')
}

/** Reads `bytes` bytes at `offset`, all of them. */
export async function readExactly(
  handle: FileHandle,
  path: string,
  offset: number,
  bytes: number
): Promise<Uint8Array<ArrayBuffer>> {
  // Its own memory, not a slice of Node's pool: typed arrays of any element size fit on it.
  const buffer = new Uint8Array(new ArrayBuffer(bytes))
  await readInto(handle, path, offset, buffer)
  return buffer
}

/** Fills `buffer` with what the file has at `offset`. */
export async function readInto(
  handle: FileHandle,
  path: string,
  offset: number,
  buffer: Uint8Array
): Promise<void> {
  let done = 0
  while (done < buffer.byteLength) {
    const { bytesRead } = await handle.read(buffer, done, buffer.byteLength - done, offset + done)
    if (bytesRead === 0) throw new CheckpointError(path, `ends at ${offset + done}, inside a tensor`)
    done += bytesRead
  }
}

/** A small file as a whole, or undefined where there is none. */
export async function readSmallFile(path: string, maxBytes: number): Promise<Uint8Array | undefined> {
  try {
    const { size } = await stat(path)
    if (size > maxBytes)
      throw new CheckpointError(path, `has ${size} bytes, more than the limit of ${maxBytes}`)
    return await readFile(path)
  } catch (error) {
    if (error instanceof CheckpointError) throw error
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    throw new CheckpointError(path, `cannot be read (${code ?? error})`, { cause: error })
  }
}

/** A JSON file's object, or undefined where there is no such file. */
export async function readJsonObject(
  path: string,
  maxBytes: number
): Promise<Record<string, unknown> | undefined> {
  const bytes = await readSmallFile(path, maxBytes)
  return bytes && parseJsonObject(path, bytes)
}

/** @throws {CheckpointError} when the bytes are not a JSON object. */
export function parseJsonObject(path: string, bytes: Uint8Array): Record<string, unknown> {
  let json: unknown
  try {
    json = parsePythonJson(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw new CheckpointError(path, standIn(bytes) ?? 'is not JSON', { cause: error })
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new CheckpointError(path, 'is not a JSON object')
  }
  return json as Record<string, unknown>
}
