import { createReadStream } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { BlobError, LayersMissingError, ModelNameError, ModelNotFoundError, StoreError } from '../errors.ts'
import type { LayerRange } from '../layers.ts'
import {
  type BlobRef,
  MAX_MANIFEST_BYTES,
  type Manifest,
  modelId,
  parseManifest,
  serializeManifest
} from '../manifest.ts'
import { BlobWriter, blobError, contentProblem, sizeProblem, writing } from './blob-file.ts'
import { ModelDraft, replaceFile } from './draft.ts'
import { FileLock } from './lock.ts'
import { removeAbandoned, Staging, syncFolder } from './staging.ts'

/** A model of the store under one of its names. */
export interface StoredModel {
  name: string
  /** SHA-256 of the manifest. */
  id: string
  manifest: Manifest
}

/** A name whose manifest cannot be read, and why. */
export interface BrokenModel {
  name: string
  error: Error
}

/** How long to wait for another process that changes the store: it holds the lock for renames and deletions only. */
const LOCK_WAIT_MS = 15_000

const ModelFile = z.strictObject({ id: z.string().regex(/^[0-9a-f]{64}$/) })

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
  readonly #manifests = new Map<string, Manifest>()

  private constructor(dir: string) {
    this.dir = dir
    this.blobsDir = join(dir, 'blobs')
    this.#modelsDir = join(dir, 'models')
    this.#tmpDir = join(dir, 'tmp')
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

  /** Where a blob is, or would be. */
  blobPath(sha256: string): string {
    if (!/^[0-9a-f]{64}$/.test(sha256)) {
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

  /** All models whose manifest can be read, by name. */
  async list(): Promise<StoredModel[]> {
    return (await this.scan()).models
  }

  /** All names, those too whose manifest is damaged. */
  async scan(): Promise<{ models: StoredModel[]; broken: BrokenModel[] }> {
    const models: StoredModel[] = []
    const broken: BrokenModel[] = []
    const names = (await readdir(this.#modelsDir)).filter(f => f.endsWith('.json')).map(f => f.slice(0, -5))
    for (const name of names.filter(isModelName).sort()) {
      try {
        // Gone when another process has just removed it.
        const model = await this.#read(name)
        if (model !== undefined) models.push(model)
      } catch (error) {
        broken.push({ name, error: error as Error })
      }
    }
    return { models, broken }
  }

  /**
   * The model of a name or of a full id.
   *
   * @throws {ModelNotFoundError} listing the names there are; {BlobError} or {ManifestError} when it is damaged.
   */
  async resolve(nameOrId: string): Promise<StoredModel> {
    const named = isModelName(nameOrId) ? await this.#read(nameOrId) : undefined
    if (named !== undefined) return named
    const models = await this.list()
    const found = models.find(model => model.id === nameOrId)
    if (found === undefined) throw notFound(nameOrId, models)
    return found
  }

  /** The layers that are here, as ascending ranges that do not touch. */
  async heldLayers(manifest: Manifest): Promise<LayerRange[]> {
    const held: [number, number][] = []
    for (const [index, layer] of manifest.layers.entries()) {
      if (!(await this.has(layer))) continue
      const last = held.at(-1)
      if (last?.[1] === index) last[1] = index + 1
      else held.push([index, index + 1])
    }
    return held
  }

  /**
   * Checks that every layer of a range is here with its full size; `verify` reads the bytes too.
   *
   * @throws {LayersMissingError} when layers are not here; {BlobError} when one has the wrong size.
   */
  async requireLayers({ name, manifest }: StoredModel, [start, end]: LayerRange): Promise<void> {
    const missing: LayerRange[] = []
    for (let index = start; index < end; index++) {
      const layer = manifest.layers[index]!
      const path = this.blobPath(layer.sha256)
      const problem = await sizeProblem(path, layer)
      if (problem === 'missing') missing.push([index, index + 1])
      else if (problem !== undefined) throw blobError(`model ${name}, layer ${index}`, path, layer, problem)
    }
    if (missing.length > 0) {
      throw new LayersMissingError(
        `model ${name}: ${missing.length} of layers [${start}, ${end}) are not in the store, layer ${missing[0]![0]} first; ` +
          'fetch them from a peer that holds them, or import the model again (edgeshard import)',
        missing
      )
    }
  }

  /**
   * Reads every file of a model that is here and compares it with its SHA-256.
   *
   * @throws {BlobError} naming the model, the layer or file, and the path.
   */
  async verify(
    model: StoredModel,
    options: { range?: LayerRange; signal?: AbortSignal } = {}
  ): Promise<void> {
    const { name, manifest } = model
    const { range, ...rest } = options
    const [start, end] = range ?? [0, manifest.layers.length]
    for (let index = start; index < end; index++) {
      const layer = manifest.layers[index]!
      await this.#verify(`model ${name}, layer ${index}`, layer, range === undefined, rest)
    }
    for (const [file, ref] of Object.entries(manifest.files)) {
      await this.#verify(`model ${name}, ${file}`, ref, false, rest)
    }
  }

  /**
   * One of the files beside the weights (tokenizer.json and so on), checked, or undefined where the model has none.
   *
   * @throws {BlobError} when it is missing or damaged.
   */
  async readSideFile({ name, manifest }: StoredModel, file: string): Promise<Uint8Array | undefined> {
    const ref = Object.hasOwn(manifest.files, file) ? manifest.files[file] : undefined
    if (ref === undefined) return undefined
    await this.#verify(`model ${name}, ${file}`, ref, false, {})
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

  /** @throws {StoreError} when the disk has not `bytes` left. */
  async requireSpace(bytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.dir)
    const free = bavail * bsize
    if (free < bytes)
      throw new StoreError(`${this.dir}: ${bytes} bytes are needed, the disk has ${free} free`)
  }

  /** Starts a new model; see ModelDraft. */
  async draft(): Promise<ModelDraft> {
    const staging = await writing(this.dir, () => Staging.create(this.#tmpDir))
    return new ModelDraft(staging, {
      blobPath: sha256 => this.blobPath(sha256),
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
    const path = this.#modelFile(name)
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
    const adopted: StoredModel[] = []
    for (const model of await other.list()) {
      if (own.has(model.name)) continue
      await other.verify(model, options)
      await this.addModel(model.name, serializeManifest(model.manifest))
      for (const ref of [...model.manifest.layers, ...Object.values(model.manifest.files)]) {
        if (await this.has(ref)) continue
        await this.putBlob(ref, createReadStream(other.blobPath(ref.sha256)), options)
      }
      adopted.push(model)
    }
    return adopted
  }

  async #publish(
    staging: Staging,
    name: string,
    manifestBytes: Uint8Array,
    enter: () => Promise<void>
  ): Promise<string> {
    const path = this.#modelFile(name)
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

  async #read(name: string): Promise<StoredModel | undefined> {
    let text: string
    try {
      text = await readFile(this.#modelFile(name), 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
    const parsed = ModelFile.safeParse(parseJson(text))
    if (!parsed.success) throw new StoreError(`${this.#modelFile(name)} is damaged; import the model again`)
    const { id } = parsed.data
    return { name, id, manifest: await this.#manifest(name, id) }
  }

  async #manifest(name: string, id: string): Promise<Manifest> {
    const known = this.#manifests.get(id)
    if (known !== undefined) return known
    const path = this.blobPath(id)
    const what = `model ${name}, manifest`
    const found = await stat(path).catch(() => undefined)
    if (found === undefined) throw blobError(what, path, { sha256: id, bytes: 0 }, 'missing')
    const ref = { sha256: id, bytes: found.size }
    if (found.size > MAX_MANIFEST_BYTES) throw blobError(what, path, ref, 'corrupt')
    const bytes = await readFile(path)
    if (modelId(bytes) !== id) throw blobError(what, path, ref, 'corrupt')
    const manifest = parseManifest(bytes)
    this.#manifests.set(id, manifest)
    return manifest
  }

  async #verify(
    what: string,
    ref: BlobRef,
    mayMiss: boolean,
    options: { signal?: AbortSignal }
  ): Promise<void> {
    const path = this.blobPath(ref.sha256)
    const problem = await contentProblem(path, ref, options)
    if (problem === undefined || (mayMiss && problem === 'missing')) return
    throw blobError(what, path, ref, problem)
  }

  /** Only under the lock: no model may be named between looking and deleting. */
  async #collectGarbage(): Promise<number> {
    const { models, broken } = await this.scan()
    const used = new Set<string>()
    for (const { id, manifest } of models) {
      used.add(id)
      for (const ref of [...manifest.layers, ...Object.values(manifest.files)]) used.add(ref.sha256)
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

  #modelFile(name: string): string {
    if (!isModelName(name)) {
      throw new ModelNameError(
        `${JSON.stringify(name)} is not a model name: letters, digits, '.', '_' and '-', at most 63, the first a letter or digit`
      )
    }
    return join(this.#modelsDir, `${name}.json`)
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

/** Whether `name` can name a model: never a path, and never as long as an id. */
export function isModelName(name: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name)
}

function notFound(name: string, models: StoredModel[]): ModelNotFoundError {
  const held = models.length === 0 ? '' : ` It holds ${models.map(m => m.name).join(', ')}.`
  return new ModelNotFoundError(
    `the store has no model ${JSON.stringify(name)}.${held} \`edgeshard models\` lists them; \`edgeshard import\` adds one.`
  )
}

function received(ref: BlobRef, problem: 'size' | 'corrupt'): BlobError {
  const said = problem === 'size' ? `does not have its ${ref.bytes} bytes` : 'does not match its SHA-256'
  return new BlobError(ref.sha256, problem, `received file ${ref.sha256} ${said}; it was not kept`)
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
