import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { ModelNameError, ModelNotFoundError, StoreError } from '../errors.ts'
import { logger } from '../log.ts'
import { MAX_MANIFEST_BYTES, type Manifest, modelId, parseManifest } from '../manifest.ts'
import { isOutOfFiles } from '../out-of-files.ts'
import { SHA256 } from '../sha256.ts'
import { blobError } from './blob-file.ts'

const log = logger('edgeshard:store')

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

const Entry = z.strictObject({ id: z.string().regex(SHA256) })

/** Whether `name` can name a model: never a path, and never as long as an id. */
export function isModelName(name: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name)
}

/** What a store's models are called, and their manifests. */
export class Catalog {
  readonly #dir: string
  readonly #blobPath: (sha256: string) => string
  readonly #manifests = new Map<string, Manifest>()

  constructor(dir: string, blobPath: (sha256: string) => string) {
    this.#dir = dir
    this.#blobPath = blobPath
  }

  /** The file that says what model `name` is. */
  file(name: string): string {
    if (!isModelName(name)) {
      throw new ModelNameError(
        `${JSON.stringify(name)} is not a model name: letters, digits, '.', '_' and '-', at most 63, the first a letter or digit`
      )
    }
    return join(this.#dir, `${name}.json`)
  }

  async scan(): Promise<{ models: StoredModel[]; broken: BrokenModel[] }> {
    const models: StoredModel[] = []
    const broken: BrokenModel[] = []
    const names = (await readdir(this.#dir)).filter(f => f.endsWith('.json')).map(f => f.slice(0, -5))
    for (const name of names.filter(isModelName).sort()) {
      try {
        // Gone when another process has just removed it.
        const model = await this.read(name)
        if (model !== undefined) models.push(model)
      } catch (error) {
        // It says nothing of the model, which is there a moment later.
        if (isOutOfFiles(error)) throw error
        broken.push({ name, error: error as Error })
      }
    }
    return { models, broken }
  }

  /** @throws {BlobError}, {ManifestError} or {StoreError} when the entry is damaged. */
  async read(name: string): Promise<StoredModel | undefined> {
    const path = this.file(name)
    let text: string
    try {
      text = await readFile(path, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
    const parsed = Entry.safeParse(parseJson(text))
    if (!parsed.success) throw new StoreError(`${path} is damaged; import the model again`)
    const { id } = parsed.data
    return { name, id, manifest: await this.manifest(name, id) }
  }

  /**
   * The manifest of an id, which is checked once; `name` is what an error calls the model.
   *
   * @throws {BlobError} or {ManifestError} when it is missing or damaged
   */
  async manifest(name: string, id: string): Promise<Manifest> {
    const known = this.#manifests.get(id)
    if (known !== undefined) return known
    const path = this.#blobPath(id)
    const what = `model ${name}, manifest`
    const bytes = await readManifest(path)
    if (bytes === undefined) throw blobError(what, path, { sha256: id, bytes: 0 }, 'missing')
    if (modelId(bytes) !== id) {
      throw blobError(what, path, { sha256: id, bytes: bytes.byteLength }, 'corrupt')
    }
    const manifest = parseManifest(bytes)
    this.#manifests.set(id, manifest)
    return manifest
  }
}

/** An error that names the models there are. */
export function notFound(name: string, models: StoredModel[]): ModelNotFoundError {
  const held = models.length === 0 ? '' : ` It holds ${models.map(m => m.name).join(', ')}.`
  return new ModelNotFoundError(
    `the store has no model ${JSON.stringify(name)}.${held} \`edgeshard models\` lists them; \`edgeshard import\` adds one.`
  )
}

async function readManifest(path: string): Promise<Uint8Array | undefined> {
  try {
    const { size } = await stat(path)
    // One that is too large is damaged; there is no need to read it to say so.
    return size > MAX_MANIFEST_BYTES ? new Uint8Array(0) : await readFile(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** What a file of the store says; undefined where it is no JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    log.passOver('a file of the store is not JSON, so it says nothing')(error)
    return undefined
  }
}
