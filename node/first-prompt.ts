import { logger } from '../models/log.ts'
import type { Manifest } from '../models/manifest.ts'
import { heldBytes } from '../models/runtime/memory.ts'
import type { ModelStore, StoredModel } from '../models/store/store.ts'
import type { Tokenizer } from '../models/tokenizer/tokenizer.ts'
import { BUNDLED_DRAFT, DEFAULT_MODEL } from './constants.ts'
import { readContacts } from './mesh/contacts.ts'
import { sideFilesOf, tokenizerOf } from './source/placement/model-tokenizer.ts'
import type { LoadAhead } from './stage/load-ahead.ts'

const log = logger('edgeshard:node')

/** Weights that take more of the budget than this may not fit beside their KV caches. */
const LOAD_AHEAD_SHARE = 0.75

export interface FirstPromptComponents {
  home: string
  store: Pick<ModelStore, 'list' | 'heldLayers' | 'readSideFile' | 'blobsDir'>
  ahead: Pick<LoadAhead, 'begin'>
  budgetBytes: number
  /** Peers that the node is told to connect to. */
  peers: readonly string[]
  /** Whether the tokenizer of a model may end while it is idle. */
  mayRest: (modelId: string) => boolean
}

/**
 * Begins what the first prompt of a node needs while the node starts: the tokenizer of its model, and all of the weights
 * where a plan can only be this device: no other one is known.
 *
 * @returns the tokenizer that is being loaded, by its model's id; none where another device has to be asked for the model
 */
export async function prepareFirstPrompt(
  { home, store, ahead, budgetBytes, peers, mayRest }: FirstPromptComponents,
  nameOrId: string | undefined
): Promise<Map<string, Promise<Tokenizer>>> {
  const tokenizers = new Map<string, Promise<Tokenizer>>()
  const model = modelOf(await store.list(), nameOrId)
  if (model === undefined) return tokenizers
  const { id, manifest } = model
  const alone = peers.length === 0 && (await readContacts(home)).size === 0
  if (alone && (await isComputedHere(store, manifest, budgetBytes))) {
    ahead.begin({ manifest, range: [0, manifest.layers.length], blobsDir: store.blobsDir })
    log.debug('loading ahead', { modelId: id })
  }
  const loading = tokenizerOf(await sideFilesOf(store, model), manifest, () => mayRest(id))
  // Whoever prompts hears of it.
  loading.catch(() => {})
  tokenizers.set(id, loading)
  return tokenizers
}

function modelOf(models: readonly StoredModel[], nameOrId: string | undefined): StoredModel | undefined {
  const asked = nameOrId ?? DEFAULT_MODEL
  const [first, ...others] = models.filter(({ name }) => name !== BUNDLED_DRAFT)
  const only = nameOrId === undefined && others.length === 0 ? first : undefined
  return models.find(({ name, id }) => name === asked || id === asked) ?? only
}

async function isComputedHere(
  store: Pick<ModelStore, 'heldLayers'>,
  manifest: Manifest,
  budgetBytes: number
): Promise<boolean> {
  if (heldBytes(manifest, [0, manifest.layers.length]) > LOAD_AHEAD_SHARE * budgetBytes) return false
  const [held] = await store.heldLayers(manifest)
  return held !== undefined && held[0] === 0 && held[1] === manifest.layers.length
}
