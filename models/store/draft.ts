import { mkdir, rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { BlobRef } from '../manifest.ts'
import { BlobWriter, sizeProblem, writing } from './blob-file.ts'
import { type Staging, syncFolder } from './staging.ts'

/** What a draft needs of the store that it becomes part of. */
export interface DraftTarget {
  blobPath(sha256: string): string
  /** Runs `enter` while no other process changes the store, then names the model. */
  publish(name: string, manifestBytes: Uint8Array, enter: () => Promise<void>): Promise<string>
}

/**
 * A model that is being made. Its files stay out of the store until `commit` moves all of them in at once, under the
 * store's lock; `close` without a commit leaves the store as it was.
 */
export class ModelDraft implements AsyncDisposable {
  readonly #staging: Staging
  readonly #target: DraftTarget
  readonly #staged = new Map<string, { path: string; ref: BlobRef }>()
  /** The file before, on its way to the disk while the next one is written. */
  #finishing: Promise<void> = Promise.resolve()
  #open: BlobWriter | undefined

  constructor(staging: Staging, target: DraftTarget) {
    this.#staging = staging
    this.#target = target
  }

  /** Adds one file, which `write` fills. */
  async add(write: (writer: BlobWriter) => Promise<void>): Promise<BlobRef> {
    const writer = await BlobWriter.create(this.#staging.path())
    this.#open = writer
    await write(writer)
    this.#open = undefined
    await this.#finishing
    this.#finishing = writer.finish()
    // Waited for before the next file ends, and at the latest by commit.
    this.#finishing.catch(() => {})
    const ref = writer.ref()
    this.stage(writer.path, ref)
    return ref
  }

  /** A path for a file that another thread writes and then hands over with `stage`. */
  newPath(): string {
    return this.#staging.path()
  }

  /** Takes a file that is complete and on the disk. */
  stage(path: string, ref: BlobRef): void {
    this.#staged.set(ref.sha256, { path, ref })
  }

  addBytes(bytes: Uint8Array): Promise<BlobRef> {
    return this.add(writer => writer.write(bytes))
  }

  /** Makes the model part of the store, in place of one that had the name, and returns its id. */
  async commit(name: string, manifestBytes: Uint8Array): Promise<string> {
    await this.#finishing
    return await this.#target.publish(name, manifestBytes, async () => {
      for (const { path, ref } of this.#staged.values()) await this.#enter(path, ref)
      this.#staged.clear()
    })
  }

  async close(): Promise<void> {
    await this.#open?.abort()
    // Where it counted, `commit` has thrown it.
    await this.#finishing.catch(() => {})
    await this.#staging.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #enter(path: string, ref: BlobRef): Promise<void> {
    const to = this.#target.blobPath(ref.sha256)
    try {
      // Replaces a damaged file of the same name, too: importing again repairs.
      await writing(to, () => rename(path, to))
    } catch (error) {
      // Windows does not replace a file that a running node has mapped; that one is as good.
      if ((await sizeProblem(to, ref)) !== undefined) throw error
    }
  }
}

/** Writes a small file so that, after a crash, either the old or the new one is there. */
export async function replaceFile(staging: Staging, path: string, text: string): Promise<void> {
  const next = staging.path()
  await writing(path, async () => {
    await mkdir(dirname(path), { recursive: true })
    await writeFile(next, text, { flush: true })
    await rename(next, path)
    await syncFolder(dirname(path))
  })
}
