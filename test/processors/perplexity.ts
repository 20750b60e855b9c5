/**
 * Perplexity of what people run, on the processor at hand: the same text, rule and models on each kind of processor say
 * what its kernels cost. `npm run test:processors` runs it natively and emulated.
 *
 *     node test/processors/perplexity.ts [WINDOWS]
 */
import { readFile } from 'node:fs/promises'
import { ModelStore, type StoredModel } from '../../models/store/store.ts'
import { BUNDLED_DIR } from '../../node/bundled.ts'
import { PERPLEXITY_WINDOW, perplexityOf } from '../fixtures/perplexity.ts'
import { encoded, importedModel } from '../fixtures/prepared.ts'
import { hasSharedData, sharedData } from '../fixtures/shared-data.ts'

const windows = Number(process.argv[2] ?? 8)
const STORIES = [
  'stories260k/hf',
  'stories260k/gguf/stories260K-pad192-q8_0.gguf',
  'stories260k/gguf/stories260K-pad192-q4_0.gguf'
]

async function report(
  name: string,
  store: ModelStore,
  model: StoredModel,
  file: string | URL
): Promise<void> {
  const text = await readFile(file, 'utf8')
  const tokens = await encoded(`perplexity-${name}`, store, model, text)
  const perplexity = await perplexityOf(
    model.manifest,
    store.blobsDir,
    tokens.slice(0, windows * PERPLEXITY_WINDOW)
  )
  console.log(`perplexity of ${name} over ${windows} windows: ${perplexity.toFixed(4)}`)
}

const bundled = ModelStore.at(BUNDLED_DIR)
const [model] = await bundled.list()
await report('bundled', bundled, model!, new URL('../fixtures/held-out-stories.txt', import.meta.url))
if (!hasSharedData) console.log('stories260k: its files are not at hand, skipped')
for (const path of hasSharedData ? STORIES : []) {
  await using imported = await importedModel(path)
  await report(path, imported.store, imported.model, sharedData('text/tinystories-197k.txt'))
}
