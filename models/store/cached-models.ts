import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { SHA256 } from '../sha256.ts'
import type { Catalog, StoredModel } from './catalog.ts'

/** A model that is here for the sake of those who compute with it, not because the user has put it here. */
export interface CachedModel extends StoredModel {
  /** Its id: what others call it names nothing here. */
  name: string
  /** What its first source called it, for people to read. */
  called: string
  /** Peer ids of the sources that use it, and when each did so last, in ms since 1970. */
  claims: Readonly<Record<string, number>>
}

export type Claims = CachedModel['claims']

const MAX_CALLED_CHARS = 120
const Entry = z.strictObject({
  called: z.string().max(MAX_CALLED_CHARS),
  claims: z.record(z.string().max(128), z.number().min(0))
})

/** The models of a store's cache, each a file under its id: no name of theirs can stand in the way of another. */
export class CachedModels {
  readonly dir: string
  readonly #catalog: Pick<Catalog, 'manifest'>

  constructor(dir: string, catalog: Pick<Catalog, 'manifest'>) {
    this.dir = dir
    this.#catalog = catalog
  }

  /** The file that says who uses model `id`. */
  file(id: string): string {
    if (!SHA256.test(id)) throw new Error(`${JSON.stringify(id)} is not a model's id`)
    return join(this.dir, `${id}.json`)
  }

  /** What such a file says. */
  textOf({ called, claims }: Pick<CachedModel, 'called' | 'claims'>): string {
    return `${JSON.stringify({ called: called.slice(0, MAX_CALLED_CHARS), claims })}\n`
  }

  /** Those whose manifest can be read, by id. */
  async list(): Promise<CachedModel[]> {
    // A store that is only read from need not have a cache.
    const files = await readdir(this.dir).catch(ifMissing([]))
    const ids = files.map(file => file.replace(/\.json$/, '')).filter(id => SHA256.test(id))
    const models = await Promise.all(ids.sort().map(id => this.read(id)))
    return models.filter(model => model !== undefined)
  }

  /** The model of an id; undefined where it is not here, or is damaged: what is only cached can be had again. */
  async read(id: string): Promise<CachedModel | undefined> {
    if (!SHA256.test(id)) return undefined
    const text = await readFile(this.file(id), 'utf8').catch(ifMissing(undefined))
    if (text === undefined) return undefined
    try {
      const { called, claims } = Entry.parse(JSON.parse(text))
      return { name: id, id, called, claims, manifest: await this.#catalog.manifest(called, id) }
    } catch {
      // Nobody need hear of it: it counts as not there, and goes with the next thing that is removed.
      return undefined
    }
  }

  /** The model of an id, or of the beginning of one, of 8 digits at least, that no other one has. */
  async find(start: string): Promise<CachedModel | undefined> {
    if (!/^[0-9a-f]{8,64}$/.test(start)) return undefined
    const found = (await this.list()).filter(({ id }) => id.startsWith(start))
    return found.length === 1 ? found[0] : undefined
  }

  /** Forgets a model, if it is here. Only under the store's lock. */
  async remove(id: string): Promise<void> {
    await rm(this.file(id), { force: true })
  }
}

function ifMissing<T>(value: T): (error: NodeJS.ErrnoException) => T {
  return error => {
    if (error.code === 'ENOENT') return value
    throw error
  }
}
