import { readFile } from 'node:fs/promises'
import { startRuntime } from '../../models/runtime/client.ts'
import { ModelStore, type StoredModel } from '../../models/store/store.ts'
import { BUNDLED_DIR } from '../bundled.ts'
import { DEFAULT_MODEL } from '../constants.ts'
import { measurePrivacy, type PrivacyReport } from '../privacy/measure.ts'
import { TEXT } from '../privacy/text.ts'
import { sideFilesOf, tokenizerOf } from '../source/placement/model-tokenizer.ts'
import { InputError } from './errors.ts'
import { storeDir } from './home.ts'
import { progressBar } from './progress.ts'

const MAX_TEXT_BYTES = 2 ** 24

/** What `privacy` and `plan --privacy-curve` measure with. */
export interface PrivacySample {
  /** Name or id of a model of the store; undefined: the one that ships. */
  model: string | undefined
  /** File with text to fit to and to try on; undefined: some that ships. */
  text: string | undefined
  threads: number
  home: string
}

/** A model of the store, or the one that ships, and where its files are. */
export async function privacyModel({
  model,
  home
}: Pick<PrivacySample, 'model' | 'home'>): Promise<{ store: ModelStore; stored: StoredModel }> {
  const own = ModelStore.at(storeDir(home))
  const isThere = model !== undefined && (await own.resolve(model).then(Boolean, () => false))
  // What ships is there without a home, too.
  const ships = model === undefined || (model === DEFAULT_MODEL && !isThere)
  const store = ships ? ModelStore.at(BUNDLED_DIR) : own
  return { store, stored: await store.resolve(model ?? DEFAULT_MODEL) }
}

/** Measures, with a bar on the way where somebody sees it. */
export async function measuredPrivacy(
  { text, threads }: Pick<PrivacySample, 'text' | 'threads'>,
  { store, stored }: { store: ModelStore; stored: StoredModel },
  signal: AbortSignal
): Promise<PrivacyReport> {
  const paragraphs = text === undefined ? TEXT : await paragraphsOf(text)
  const bar = progressBar('measuring', 'steps')
  const runtime = await startRuntime({ threads })
  try {
    const tokenizer = await tokenizerOf(await sideFilesOf(store, stored), stored.manifest)
    const sequences: number[][] = []
    for (const paragraph of paragraphs) sequences.push(await tokenizer.encode(paragraph, { signal }))
    await tokenizer.close()
    const { manifest } = stored
    const { blobsDir } = store
    return await measurePrivacy({ manifest, blobsDir, runtime, sequences, signal, onProgress: bar.update })
  } finally {
    bar.stop()
    await runtime.stop()
  }
}

async function paragraphsOf(path: string): Promise<string[]> {
  const bytes = await readFile(path).catch((error: Error) => {
    throw new InputError(`--text ${path} cannot be read: ${error.message}`)
  })
  if (bytes.length > MAX_TEXT_BYTES) {
    throw new InputError(`--text ${path} has ${bytes.length} bytes; ${MAX_TEXT_BYTES} are read at most`)
  }
  return bytes
    .toString('utf8')
    .split(/\n\s*\n/)
    .map(paragraph => paragraph.trim())
    .filter(paragraph => paragraph !== '')
}
