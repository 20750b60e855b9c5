import { join } from 'node:path'
import { z } from 'zod'
import { readJsonObject } from '../../../models/formats/files.ts'
import { logger } from '../../../models/log.ts'
import { SHA256 } from '../../../models/sha256.ts'
import { writePrivate } from '../../mesh/files.ts'

const log = logger('edgeshard:source')

/** Pairs of a model and what drafts for it; those that were counted longest ago go first. */
const MAX_PAIRS = 256
const MAX_FILE_BYTES = 128 * 1024
/** Fewer guesses say nothing. */
const LEAST_GUESSES = 32
/** So many weigh no more than half of them: what is asked changes. */
const MOST_GUESSES = 4096

const Counted = z.strictObject({
  modelId: z.string().regex(SHA256),
  drafter: z.string().regex(/^(ngram|[0-9a-f]{64})$/),
  guesses: z.number().min(0).max(MOST_GUESSES),
  held: z.number().min(0).max(MOST_GUESSES)
})
const File = z.object({ pairs: z.array(Counted).max(MAX_PAIRS) })

/** A model, and what drafts for it: the id of a model, or `ngram`. */
export interface DraftPair {
  modelId: string
  drafter: string
}

/** Guesses of an answer that came to be compared, and how many of them held. */
export interface Guesses {
  guesses: number
  held: number
}

/**
 * How many of the guesses held that were made for each model, counted over answers and kept in the home's folder of
 * measured times: the first window of the next answer is made with it.
 */
export class Acceptances {
  readonly #path: string
  /** In the order of counting, the latest last. */
  #pairs: Promise<Map<string, DraftPair & Guesses>> | undefined
  #writing: Promise<void> = Promise.resolve()

  /** @param dir of the home, where times of layers are */
  constructor(dir: string) {
    this.#path = join(dir, 'acceptance.json')
  }

  /** Share of the guesses that held, 0 to 1; undefined while there were too few. */
  async share(pair: DraftPair): Promise<number | undefined> {
    const counted = (await this.#read()).get(keyOf(pair))
    return counted === undefined || counted.guesses < LEAST_GUESSES
      ? undefined
      : counted.held / counted.guesses
  }

  /** Counts the guesses of one answer. A file that cannot be written costs what was counted at the next start. */
  async count({ modelId, drafter }: DraftPair, { guesses, held }: Guesses): Promise<void> {
    if (!(guesses > 0 && held >= 0 && held <= guesses)) return
    const pairs = await this.#read()
    const key = keyOf({ modelId, drafter })
    const before = pairs.get(key) ?? { guesses: 0, held: 0 }
    const all = before.guesses + guesses
    const weight = all > MOST_GUESSES ? MOST_GUESSES / 2 / all : 1
    pairs.delete(key)
    pairs.set(key, { modelId, drafter, guesses: weight * all, held: weight * (before.held + held) })
    if (pairs.size > MAX_PAIRS) pairs.delete(pairs.keys().next().value!)
    // One at a time, or an older one might be the last.
    this.#writing = this.#writing.then(() =>
      writePrivate(this.#path, Buffer.from(JSON.stringify({ pairs: [...pairs.values()] }))).catch(
        log.passOver('counted guesses cannot be remembered; the next start counts anew')
      )
    )
    await this.#writing
  }

  #read(): Promise<Map<string, DraftPair & Guesses>> {
    this.#pairs ??= this.#load()
    return this.#pairs
  }

  /** What earlier runs counted; a file that is damaged, too large or not of this kind counts as none. */
  async #load(): Promise<Map<string, DraftPair & Guesses>> {
    try {
      const json = await readJsonObject(this.#path, MAX_FILE_BYTES)
      const { pairs } = json === undefined ? { pairs: [] } : File.parse(json)
      const sound = pairs.filter(({ guesses, held }) => held <= guesses)
      return new Map(sound.map(pair => [keyOf(pair), pair]))
    } catch (error) {
      log.passOver('counted guesses cannot be read; they are counted anew')(error)
      return new Map()
    }
  }
}

function keyOf({ modelId, drafter }: DraftPair): string {
  return `${modelId} ${drafter}`
}
