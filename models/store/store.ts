import { randomUUID } from 'node:crypto'
import { createReadStream, existsSync, watch } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { BlobError, StoreError } from '../errors.ts'
import { identityOf } from '../formats/files.ts'
import type { LayerRange } from '../layers.ts'
import { logger } from '../log.ts'
import { type BlobRef, type Manifest, modelId, parseManifest, serializeManifest } from '../manifest.ts'
import { SHA256 } from '../sha256.ts'
import { BlobWriter, contentProblem, sizeProblem, writing } from './blob-file.ts'
import { type CachedModel, CachedModels, type Claims } from './cached-models.ts'
import { type BrokenModel, Catalog, isModelName, notFound, parseJson, type StoredModel } from './catalog.ts'
import { CheckedFiles } from './checked-files.ts'
import { ModelDraft, replaceFile } from './draft.ts'
import { FileLock } from './lock.ts'
import { filesOf, heldLayers, verifyBlob, verifyModel } from './model-files.ts'
import { removeAbandoned, Staging, syncFolder } from './staging.ts'

const log = logger('edgeshard:store')

export type { CachedModel, Claims } from './cached-models.ts'
export type { BrokenModel, StoredModel } from './catalog.ts'

const Adopted = z.array(z.string())

/** How long to wait for another process that changes the store: it holds the lock for renames and deletions only. */
const LOCK_WAIT_MS = 15_000

/**
 * The models on this device, in one folder that several processes may use at once:
 *
 *     blobs/<sha256>       weights, manifests and tokenizer files, each named by its content
 *     models/<name>.json   {"id": SHA-256 of the manifest}: the user's own models
 *     cache/<id>.json      who uses a model that is only here to compute with it
 *     checked.json         files that were found to hold what their names say
 *     adopted.json         names that came from another store, such as the bundled model's
 *     tmp/                 what imports and downloads have not finished
 *
 * A model may be held in part: `heldLayers` says which layers are here. Models of the cache have no name.
 */
export class ModelStore {
  readonly dir: string
  /** Folder that holds the layers' files under their SHA-256. */
  readonly blobsDir: string
  readonly #modelsDir: string
  readonly #tmpDir: string
  readonly #catalog: Catalog
  readonly #cached: CachedModels
  readonly #checked: CheckedFiles
  readonly #path = (sha256: string) => this.blobPath(sha256)

  /** @param isKept whether the files that are found intact are noted in the folder */
  private constructor(dir: string, isKept: boolean) {
    this.dir = dir
    this.blobsDir = join(dir, 'blobs')
    this.#modelsDir = join(dir, 'models')
    this.#tmpDir = join(dir, 'tmp')
    this.#catalog = new Catalog(this.#modelsDir, this.#path)
    this.#cached = new CachedModels(join(dir, 'cache'), this.#catalog)
    const checked = join(dir, 'checked.json')
    this.#checked = new CheckedFiles(
      checked,
      isKept ? text => this.#replaceChecked(checked, text) : undefined
    )
  }

  /**
   * Opens the store in `dir`, making it where there is none, and removes what crashed imports left.
   *
   * @throws {StoreError} when the folder cannot be written.
   */
  static async open(dir: string): Promise<ModelStore> {
    const store = new ModelStore(dir, true)
    await writing(dir, async () => {
      for (const path of [store.blobsDir, store.#modelsDir, store.#tmpDir])
        await mkdir(path, { recursive: true })
      await removeAbandoned(store.#tmpDir)
      await store.#separateCache()
    })
    return store
  }

  /** A store to read from, as it is: nothing is made in `dir`, which may be read-only. */
  static at(dir: string): ModelStore {
    return new ModelStore(dir, false)
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
   * Whether a blob is here with the bytes that its name says. They are read once; after that it is known for a week, also
   * by the next process, as long as the file is the same one with the same time of change.
   */
  async intact(ref: BlobRef, options: { signal?: AbortSignal } = {}): Promise<boolean> {
    const path = this.blobPath(ref.sha256)
    const identity = await identityOf(path)
    if (identity === undefined) return false
    if (await this.#checked.has(ref.sha256, identity)) return true
    if ((await contentProblem(path, ref, options)) !== undefined) return false
    await this.#checked.note(ref.sha256, identity)
    return true
  }

  /**
   * Calls `onChange` when a model is added, changed or removed, by this process or another; the function returned ends
   * that. On file systems that tell of no changes it is never called.
   */
  watch(onChange: () => void): () => void {
    const watchers = [this.#modelsDir, this.#cached.dir].map(dir =>
      watch(dir, { persistent: false }, onChange)
    )
    for (const watcher of watchers) {
      watcher.on(
        'error',
        log.passOver('the store is not watched any more; its models are read at the next lease')
      )
    }
    return () => {
      for (const watcher of watchers) watcher.close()
    }
  }

  /** The user's models whose manifest can be read, by name. */
  async list(): Promise<StoredModel[]> {
    return (await this.scan()).models
  }

  /** All names, those too whose manifest is damaged. */
  async scan(): Promise<{ models: StoredModel[]; broken: BrokenModel[] }> {
    return await this.#catalog.scan()
  }

  /** The models of the cache, by id. */
  async cached(): Promise<CachedModel[]> {
    return await this.#cached.list()
  }

  /** Every model of which files may be here: those of the cache under their id, the user's under each of their names. */
  async held(): Promise<StoredModel[]> {
    const own = await this.list()
    const ids = new Set(own.map(({ id }) => id))
    return [...(await this.cached()).filter(({ id }) => !ids.has(id)), ...own]
  }

  /**
   * Puts a model into the cache, or says anew who uses it; its layers may come later. Returns its id.
   *
   * @param options `called`: what its source calls it, which names nothing; `claims`: who uses it, and since when
   * @throws {ManifestError} when the manifest is not sound; {StoreError}
   */
  async cache(
    manifestBytes: Uint8Array,
    { called, claims }: { called: string; claims: Claims }
  ): Promise<string> {
    const id = modelId(manifestBytes)
    await this.#enterCache(id, { called, claims }, manifestBytes)
    return id
  }

  /** Says anew who uses a model of the cache. */
  async claim(id: string, claims: Claims): Promise<void> {
    const model = await this.#cached.read(id)
    if (model !== undefined) await this.#enterCache(id, { called: model.called, claims })
  }

  /** Takes models out of the cache and deletes every file that no other model uses. Returns the bytes freed. */
  async uncache(ids: readonly string[]): Promise<number> {
    return await this.#locked(async () => {
      for (const id of ids) await this.#cached.remove(id)
      return await this.#collectGarbage()
    })
  }

  /**
   * The user's model of a name or of a full id, else a cached one by its id or the beginning of it.
   *
   * @throws {ModelNotFoundError} listing the names there are; {BlobError} or {ManifestError} when it is damaged.
   */
  async resolve(nameOrId: string): Promise<StoredModel> {
    const named = isModelName(nameOrId) ? await this.#catalog.read(nameOrId) : undefined
    if (named !== undefined) return named
    const models = await this.list()
    const found = models.find(model => model.id === nameOrId) ?? (await this.#cached.find(nameOrId))
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
      const identity = await identityOf(to)
      if (identity !== undefined) await this.#checked.note(ref.sha256, identity)
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

  /** Bytes that the disk has left for this user. */
  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.dir)
    return bavail * bsize
  }

  /** @throws {StoreError} when the disk has not `bytes` left and `keepFree` besides. */
  async requireSpace(bytes: number, keepFree = 0): Promise<void> {
    const free = await this.freeBytes()
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

  /** The id of what `remove` would forget, undefined where there is nothing, or it is damaged. */
  async idOf(nameOrId: string): Promise<string | undefined> {
    if (isModelName(nameOrId) && existsSync(this.#catalog.file(nameOrId))) {
      const model = await this.#catalog
        .read(nameOrId)
        .catch(log.passOver('a model that is looked up is damaged; nobody computes with it'))
      return model?.id
    }
    return (await this.#cached.find(nameOrId))?.id
  }

  /**
   * Forgets a name, else a cached model by its id or the beginning of it, and deletes every file that no other model uses.
   * What loses a name does not stay as a cached model either. Returns the bytes freed.
   *
   * @throws {ModelNotFoundError}
   */
  async remove(nameOrId: string): Promise<number> {
    const cached = await this.#cached.find(nameOrId)
    const named = isModelName(nameOrId) && existsSync(this.#catalog.file(nameOrId))
    if (cached !== undefined && !named) return await this.uncache([cached.id])
    const path = this.#catalog.file(nameOrId)
    return await this.#locked(async () => {
      const id = await this.#catalog
        .read(nameOrId)
        .then(
          model => model?.id,
          log.passOver('a model that is removed is damaged; what the cache has of it stays')
        )
      try {
        await rm(path)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw notFound(nameOrId, await this.list())
        throw error
      }
      if (id !== undefined) await this.#cached.remove(id)
      return await this.#collectGarbage()
    })
  }

  /**
   * Copies every model of another store into this one, checking each file. Names that exist are left alone, and so are
   * those that were copied once and have been removed since, unless they are to come `again`.
   */
  async adopt(
    dir: string,
    { again = false, ...options }: { again?: boolean; signal?: AbortSignal } = {}
  ): Promise<StoredModel[]> {
    const other = ModelStore.at(dir)
    const own = new Set((await this.list()).map(model => model.name))
    const before = await this.#adopted()
    const offered = await other.list()
    const adopted = offered.filter(({ name }) => !own.has(name) && (again || !before.includes(name)))
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
    await this.#noteAdopted([...new Set([...before, ...offered.map(({ name }) => name)])], before)
    return adopted
  }

  /** Names that came from another store, whether they are here still or not. */
  async #adopted(): Promise<string[]> {
    const text = await readFile(join(this.dir, 'adopted.json'), 'utf8').catch(error => {
      if (error.code === 'ENOENT') return '[]'
      throw error
    })
    return Adopted.catch([]).parse(parseJson(text))
  }

  async #noteAdopted(names: string[], before: readonly string[]): Promise<void> {
    if (names.length === before.length) return
    const staging = await writing(this.dir, () => Staging.create(this.#tmpDir))
    try {
      await replaceFile(staging, join(this.dir, 'adopted.json'), `${JSON.stringify(names)}\n`)
    } finally {
      await staging.close()
    }
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
      await this.#enterManifest(staging, id, manifestBytes)
      await replaceFile(staging, path, `${JSON.stringify({ id })}\n`)
    })
    return id
  }

  /** Quickly rather than surely: after a power cut the files are checked again. */
  async #replaceChecked(path: string, text: string): Promise<void> {
    const next = join(this.#tmpDir, randomUUID())
    await writeFile(next, text)
    await rename(next, path)
  }

  /** @param manifestBytes absent: they are in the store */
  async #enterCache(
    id: string,
    said: Pick<CachedModel, 'called' | 'claims'>,
    manifestBytes?: Uint8Array
  ): Promise<void> {
    if (manifestBytes !== undefined) parseManifest(manifestBytes)
    const staging = await writing(this.dir, () => Staging.create(this.#tmpDir))
    try {
      await this.#locked(async () => {
        if (manifestBytes !== undefined) await this.#enterManifest(staging, id, manifestBytes)
        await replaceFile(staging, this.#cached.file(id), this.#cached.textOf(said))
      })
    } finally {
      await staging.close()
    }
  }

  async #enterManifest(staging: Staging, id: string, bytes: Uint8Array): Promise<void> {
    const manifest = await BlobWriter.create(staging.path())
    await manifest.write(bytes)
    await manifest.finish()
    const path = this.blobPath(id)
    await writing(path, () => rename(manifest.path, path))
    await syncFolder(this.blobsDir)
  }

  /**
   * Once, in a store from before there was a cache: models of which layers are missing were brought by peers under names
   * of theirs, for an import has all of them. They become what they are.
   */
  async #separateCache(): Promise<void> {
    if (existsSync(this.#cached.dir)) return
    const staging = await Staging.create(this.#tmpDir)
    try {
      await this.#locked(async () => {
        // Whole before it has its name: what a power cut leaves is done again.
        const next = staging.path()
        await mkdir(next)
        const brought: string[] = []
        for (const { name, id, manifest } of await this.list()) {
          const held = await this.heldLayers(manifest)
          if (held.length === 1 && held[0]![0] === 0 && held[0]![1] === manifest.layers.length) continue
          const said = this.#cached.textOf({ called: name, claims: {} })
          await replaceFile(staging, join(next, `${id}.json`), said)
          brought.push(name)
        }
        if (!existsSync(this.#cached.dir)) await rename(next, this.#cached.dir)
        for (const name of brought) {
          await rm(this.#catalog.file(name))
          log.info('a model that peers have brought is kept as a cached one', { model: name })
        }
      })
    } finally {
      await staging.close()
    }
  }

  /** Only under the lock: no model may be named between looking and deleting. */
  async #collectGarbage(): Promise<number> {
    const { models, broken } = await this.scan()
    const used = new Set<string>()
    for (const { id, manifest } of [...models, ...(await this.cached())]) {
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
