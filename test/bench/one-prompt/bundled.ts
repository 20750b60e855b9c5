import { startRuntime } from '../../../models/runtime/client.ts'
import { ModelStore } from '../../../models/store/store.ts'
import { BUNDLED_DIR } from '../../../node/bundled.ts'
import { ModelDraft } from '../../../node/source/draft/model-draft.ts'
import { sideFilesOf, tokenizerOf } from '../../../node/source/placement/model-tokenizer.ts'
import { GREEDY } from '../../fixtures/shards.ts'
import { Line, type Measured, stagesOf } from '../stage-line.ts'
import type { How, Row } from './row.ts'
import { TEN_MS, tokenMs } from './settings.ts'

/** README's, and others of its kind. */
const PROMPTS = ['What does a thermostat do?', 'What is a fan?', 'How does a lamp work?']
const CONTEXT_TOKENS = 256

/** The bundled model with its own draft over none: one answer over three devices, which share no memory with the draft. */
export async function bundledRow(how: How): Promise<Row> {
  const store = ModelStore.at(BUNDLED_DIR)
  const models = await store.list()
  const target = models.find(({ name }) => name === 'edgeshard-tiny')!
  const small = models.find(({ name }) => name === 'edgeshard-tiny-draft')!
  const tokenizer = await tokenizerOf(await sideFilesOf(store, target), target.manifest)
  const ends = new Set([...target.manifest.eosTokenIds, ...tokenizer.endOfTurnIds])
  const runtime = await startRuntime({ threads: 1, spinUs: 0 })
  const shard = await runtime.load({
    manifest: small.manifest,
    range: [0, small.manifest.layers.length],
    blobsDir: store.blobsDir
  })
  const model = { manifest: target.manifest, blobsDir: store.blobsDir }
  const group = await stagesOf(model, 3, { ...how, maxTokens: CONTEXT_TOKENS })
  const line = new Line(group, TEN_MS)
  const all: Record<'plain' | 'drafted', Measured[]> = { plain: [], drafted: [] }
  let same = true
  for (let round = 0; round < how.rounds; round++) {
    for (const content of PROMPTS) {
      const prompt = await tokenizer.encodeChat([{ role: 'user', content }])
      const asked = { prompt, newTokens: how.newTokens, ends }
      const plain = await line.answer(asked)
      const session = await shard.open({ maxTokens: CONTEXT_TOKENS, sampling: GREEDY })
      const { vocabSize } = small.manifest.shape
      const draft = new ModelDraft({ session, maxTokens: CONTEXT_TOKENS, vocabSize })
      const drafted = await line.answer({ ...asked, draft })
      await draft.end()
      await session.close()
      all.plain.push(plain)
      all.drafted.push(drafted)
      same &&= `${plain.ids}` === `${drafted.ids}`
    }
  }
  await group.end()
  await runtime.stop()
  await tokenizer.close()
  const sum = (of: 'sent' | 'held') => all.drafted.reduce((sum, { guesses }) => sum + guesses![of], 0)
  const tokens = same ? 'the same tokens' : 'OTHER TOKENS'
  return {
    setting: 'the bundled model with its draft, 3 stages, 10 ms, 50 Mbps',
    againstMs: tokenMs(all.plain),
    ms: tokenMs(all.drafted),
    aim: 0.5,
    and: `guesses sent ${sum('sent')}, held ${sum('held')}; ${tokens}`,
    held: group.held
  }
}
