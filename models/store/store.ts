import { createReadStream, watch } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { BlobError, StoreError } from '../errors.ts'
import { identityOf } from '../formats/files.ts'
import type { LayerRange } from '../layers.ts'
import { logger } from '../log.ts'
import { type BlobRef, type Manifest, modelId, parseManifest, serializeManifest } from '../manifest.ts'
import { SHA256 } from '../sha256.ts'
import { BlobWriter, contentProblem, sizeProblem, writing } from './blob-file.ts'
import { type BrokenModel, Catalog, isModelName, notFound, type StoredModel } from './catalog.ts'
import { ModelDraft, replaceFile } from './draft.ts'
import { FileLock } from './lock.ts'
import { filesOf, heldLayers, verifyBlob, verifyModel } from './model-files.ts'
import { removeAbandoned, Staging, syncFolder } from './staging.ts'

const log = logger('edgeshard:store')

export type { BrokenModel, StoredModel } from './catalog.ts'

/** How long to wait for another process that changes the store: it holds the lock for renames and deletions only. */
const LOCK_WAIT_MS = 15_000

/**
 * The models on this device, in one folder that several processes may use at once:
 *
 *     blobs/<sha256>       weights, manifests and tokenizer files, each named by its content
 *     models/<name>.json   {"id": SHA-256 of the manifest}
 *     tmp/                 what imports and downloads have not finished
 *
 * A model may be held in part: `heldLayers` says which layers are here.
 */
export class ModelStore {
  readonly dir: string
  /** Folder that holds the layers' files under their SHA-256. */
  readonly blobsDir: string
  readonly #modelsDir: string
  readonly #tmpDir: string
  readonly #catalog: Catalog
  /** Blobs whose bytes were compared with their name, and what the file was like then. */
  readonly #verified = new Map<string, string>()
  readonly #path = (sha256: string) => this.blobPath(sha256)

  private constructor(dir: string) {
    this.dir = dir
    this.blobsDir = join(dir, 'blobs')
    this.#modelsDir = join(dir, 'models')
    this.#tmpDir = join(dir, 'tmp')
    this.#catalog = new Catalog(this.#modelsDir, this.#path)
  }

  /**
   * Opens the store in `dir`, making it where there is none, and removes what crashed imports left.
   *
   * @throws {StoreError} when the folder cannot be written.
   */
  static async open(dir: string): Promise<ModelStore> {
    const store = new ModelStore(dir)
    await writing(dir, async () => {
      for (const path of [store.blobsDir, store.#modelsDir, store.#tmpDir])
        await mkdir(path, { recursive: true })
      await removeAbandoned(store.#tmpDir)
    })
    return store
  }

  /** A store to read from, as it is: nothing is made in `dir`, which may be read-only. */
  static at(dir: string): ModelStore {
    return new ModelStore(dir)
  }

  /** Path at which a blob is, or would be. */
  blobPath(sha256: string): string {
    if (!SHA256.test(sha256)) {
      throw new BlobError(
        sha256,
        'missing',
        `${JSON.stringify(sha256)} is not a SHA-256: no file has that name`
      )
    }
    return join(this.blobsDir, sha256)
  }

  /** Whether a blob is here with its full size. */
  async has(ref: BlobRef): Promise<boolean> {
    return (await sizeProblem(this.blobPath(ref.sha256), ref)) === undefined
  }

  /**
   * Whether a blob is here with the bytes that its name says. They are read once; after that, as long as the file is
   * the same one with the same time of change, it is known.
   */
  async intact(ref: BlobRef, options: { signal?: AbortSignal } = {}): Promise<boolean> {
    const path = this.blobPath(ref.sha256)
    const identity = await identityOf(path)
    if (identity === undefined) return false
    if (this.#verified.get(ref.sha256) === identity) return true
    if ((await contentProblem(path, ref, options)) !== undefined) return false
    this.#verified.set(ref.sha256, identity)
    return true
  }

  /**
   * Calls `onChange` when a name is added, changed or removed, by this process or another; the function returned ends
   * that. On file systems that tell of no changes it is never called.
   */
  watch(onChange: () => void): () => void {
    const watcher = watch(this.#modelsDir, { persistent: false }, onChange)
    watcher.on(
      'error',
      log.passOver('the store is not watched any more; its models are read at the next lease')
    )
    return () => watcher.close()
  }

  /** All models whose manifest can be read, by name. */
  async list(): Promise<StoredModel[]> {
    return (await this.scan()).models
  }

  /** All names, those too whose manifest is damaged. */
  async scan(): Promise<{ models: StoredModel[]; broken: BrokenModel[] }> {
    return await this.#catalog.scan()
  }

  /**
   * The model of a name or of a full id.
   *
   * @throws {ModelNotFoundError} listing the names there are; {BlobError} or {ManifestError} when it is damaged.
   */
  async resolve(nameOrId: string): Promise<StoredModel> {
    const named = isModelName(nameOrId) ? await this.#catalog.read(nameOrId) : undefined
    if (named !== undefined) return named
    const models = await this.list()
    const found = models.find(model => model.id === nameOrId)
    if (found === undefined) throw notFound(nameOrId, models)
    return found
  }

  /** The layers that are here, as ascending ranges that do not touch. */
  async heldLayers(manifest: Manifest): Promise<LayerRange[]> {
    return await heldLayers(manifest, this.#path)
  }

  /**
   * Reads files of a model and compares them with their SHA-256: those of `range`, which must be here, or all that are.
   *
   * @throws {BlobError} naming the model, the layer or file, and the path.
   */
  async verify(
    model: StoredModel,
    options: { range?: LayerRange; signal?: AbortSignal } = {}
  ): Promise<void> {
    await verifyModel(model, this.#path, options)
  }

  /**
   * One of the files beside the weights (tokenizer.json and so on), checked, or undefined where the model has none.
   *
   * @throws {BlobError} when it is missing or damaged.
   */
  async readSideFile({ name, manifest }: StoredModel, file: string): Promise<Uint8Array | undefined> {
    const ref = Object.hasOwn(manifest.files, file) ? manifest.files[file] : undefined
    if (ref === undefined) return undefined
    await verifyBlob(`model ${name}, ${file}`, ref, this.#path, false, {})
    return await readFile(this.blobPath(ref.sha256))
  }

  /**
   * Takes a file from a peer or a download. Nothing is kept unless its size and SHA-256 are right. The model that it
   * belongs to is to be added first: what no model refers to goes with the next `remove`.
   *
   * @throws {BlobError} when the bytes are not those of `ref`; {StoreError} when they cannot be written.
   */
  async putBlob(
    ref: BlobRef,
    source: AsyncIterable<Uint8Array>,
    options: { signal?: AbortSignal } = {}
  ): Promise<void> {
    const to = this.blobPath(ref.sha256)
    const staging = await Staging.create(this.#tmpDir)
    let writer: BlobWriter | undefined
    try {
      writer = await BlobWriter.create(staging.path())
      for await (const chunk of source) {
        options.signal?.throwIfAborted()
        if (writer.bytes + chunk.byteLength > ref.bytes) throw received(ref, 'size')
        await writer.write(chunk)
      }
      options.signal?.throwIfAborted()
      if (writer.bytes !== ref.bytes) throw received(ref, 'size')
      const { path } = writer
      if (writer.ref().sha256 !== ref.sha256) throw received(ref, 'corrupt')
      await writer.finish()
      await writing(to, () => rename(path, to))
      await syncFolder(this.blobsDir)
    } finally {
      await writer?.abort()
      await staging.close()
    }
  }

  /** Bytes of all files in the store, whichever models use them. */
  async diskBytes(): Promise<number> {
    let bytes = 0
    for (const name of await readdir(this.blobsDir)) {
      bytes += (
        await stat(join(this.blobsDir, name)).catch(error => {
          log.passOver('a file of the store is gone while it is counted')(error)
          return { size: 0 }
        })
      ).size
    }
    return bytes
  }

  /** @throws {StoreError} when the disk has not `bytes` left and `keepFree` besides. */
  async requireSpace(bytes: number, keepFree = 0): Promise<void> {
    const { bavail, bsize } = await statfs(this.dir)
    const free = bavail * bsize
    if (free < bytes + keepFree) {
      const kept = keepFree === 0 ? '' : ` and ${keepFree} stay free`
      throw new StoreError(`${this.dir}: ${bytes} bytes are needed${kept}, the disk has ${free} free`)
    }
  }

  /** Starts a new model; see ModelDraft. */
  async draft(): Promise<ModelDraft> {
    const staging = await writing(this.dir, () => Staging.create(this.#tmpDir))
    return new ModelDraft(staging, {
      blobPath: this.#path,
      publish: (name, bytes, enter) => this.#publish(staging, name, bytes, enter)
    })
  }

  /**
   * Names a model whose layers may come later (from peers), and returns its id.
   *
   * @throws {ManifestError} when the manifest is not sound; {ModelNameError}; {StoreError}.
   */
  async addModel(name: string, manifestBytes: Uint8Array): Promise<string> {
    const draft = await this.draft()
    try {
      return await draft.commit(name, manifestBytes)
    } finally {
      await draft.close()
    }
  }

  /**
   * Forgets a name and deletes every file that no other model uses. Returns the bytes freed.
   *
   * @throws {ModelNotFoundError}
   */
  async remove(name: string): Promise<number> {
    const path = this.#catalog.file(name)
    return await this.#locked(async () => {
      try {
        await rm(path)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw notFound(name, await this.list())
        throw error
      }
      return await this.#collectGarbage()
    })
  }

  /** Copies every model of another store into this one, checking each file. Names that exist are left alone. */
  async adopt(dir: string, options: { signal?: AbortSignal } = {}): Promise<StoredModel[]> {
    const other = new ModelStore(dir)
    const own = new Set((await this.list()).map(model => model.name))
    const adopted = (await other.list()).filter(model => !own.has(model.name))
    for (const model of adopted) {
      await other.verify(model, { ...options, range: [0, model.manifest.layers.length] })
      await using draft = await this.draft()
      for (const ref of filesOf(model.manifest)) {
        await draft.add(async writer => {
          const stream = createReadStream(other.blobPath(ref.sha256), { ...options, highWaterMark: 2 ** 20 })
          for await (const chunk of stream) await writer.write(chunk as Uint8Array)
        })
      }
      await draft.commit(model.name, serializeManifest(model.manifest))
    }
    return adopted
  }

  async #publish(
    staging: Staging,
    name: string,
    manifestBytes: Uint8Array,
    enter: () => Promise<void>
  ): Promise<string> {
    const path = this.#catalog.file(name)
    parseManifest(manifestBytes)
    const id = modelId(manifestBytes)
    await this.#locked(async () => {
      await enter()
      const manifest = await BlobWriter.create(staging.path())
      await manifest.write(manifestBytes)
      await manifest.finish()
      await writing(path, () => rename(manifest.path, this.blobPath(id)))
      await syncFolder(this.blobsDir)
      await replaceFile(staging, path, `${JSON.stringify({ id })}\n`)
    })
    return id
  }

  /** Only under the lock: no model may be named between looking and deleting. */
  async #collectGarbage(): Promise<number> {
    const { models, broken } = await this.scan()
    const used = new Set<string>()
    for (const { id, manifest } of models) {
      used.add(id)
      for (const ref of filesOf(manifest)) used.add(ref.sha256)
    }
    const unreadable = broken.find(({ error }) => 'code' in error)
    if (unreadable !== undefined) {
      throw new StoreError(
        `cannot tell which files model ${unreadable.name} uses: ${unreadable.error.message}`
      )
    }
    let freed = 0
    for (const sha256 of await readdir(this.blobsDir)) {
      if (used.has(sha256)) continue
      const path = join(this.blobsDir, sha256)
      const { size } = await stat(path)
      // Windows refuses while a node has the file mapped; the next removal takes it.
      await rm(path, { force: true }).then(
        () => (freed += size),
        () => {}
      )
    }
    return freed
  }

  async #locked<T>(change: () => Promise<T>): Promise<T> {
    const lock = await FileLock.acquire(join(this.dir, 'lock'), LOCK_WAIT_MS)
    try {
      return await change()
    } finally {
      lock.release()
    }
  }
}

function received(ref: BlobRef, problem: 'size' | 'corrupt'): BlobError {
  const said = problem === 'size' ? `does not have its ${ref.bytes} bytes` : 'does not match its SHA-256'
  return new BlobError(ref.sha256, problem, `received file ${ref.sha256} ${said}; it was not kept`)
}
