/**
 * How many guesses are right: what was said before, the bundled model's draft, and both, over answers of the bundled model to
 * prompts in wordings that neither was trained on.
 *
 *     npm run bench:acceptance -- [--prompts 120] [--tokens 96]
 *
 * Each token is guessed behind those that were drawn before it.
 */

import { startRuntime } from '../../models/runtime/client.ts'
import type { Sampling } from '../../models/runtime/sampler.ts'
import { ModelStore } from '../../models/store/store.ts'
import { BUNDLED_DIR } from '../../node/bundled.ts'
import { AnswerPool } from '../../node/source/draft/answer-pool.ts'
import { createDraft, type DraftKind } from '../../node/source/draft/create-draft.ts'
import { ModelDraft } from '../../node/source/draft/model-draft.ts'
import { type Answered, answersOf, heldOutPrompts, rightGuesses } from '../fixtures/acceptance.ts'
import { commandOptions } from '../fixtures/command-options.ts'

const { values } = commandOptions(import.meta.url, {
  options: { prompts: { type: 'string', default: '120' }, tokens: { type: 'string', default: '96' } }
})
const most = Number(values.tokens)
const prompts = await heldOutPrompts(Number(values.prompts))
const store = ModelStore.at(BUNDLED_DIR)
const models = await store.list()
const target = models.find(({ name }) => name === 'edgeshard-tiny')!
const small = models.find(({ name }) => name === 'edgeshard-tiny-draft')!
const runtime = await startRuntime({ threads: 1 })
const shard = await runtime.load({
  manifest: small.manifest,
  range: [0, small.manifest.layers.length],
  blobsDir: store.blobsDir
})

const GREEDY: Sampling = { temperature: 0, topP: 1, seed: 1, topLogprobs: 0 }
const SEEDED: Sampling = { temperature: 0.8, topP: 0.95, seed: 1, topLogprobs: 0 }

/** Right guesses over all answers; `pool` has what was answered before under one name. */
async function shareOf(answers: readonly Answered[], kind: DraftKind, scope: string): Promise<number> {
  const pool = new AnswerPool()
  let right = 0
  let guesses = 0
  for (const answer of answers) {
    const maxTokens = answer.prompt.length + most
    const open = async () => {
      const session = await shard.open({ maxTokens, sampling: GREEDY })
      const { vocabSize } = small.manifest.shape
      const draft = new ModelDraft({ session, maxTokens, vocabSize })
      return { draft, loaded: Promise.resolve(), close: () => session.close() }
    }
    const found = { find: async () => small, guessing: async () => small, open }
    const draft = await createDraft(
      { pool, models: found },
      { kind, target, scope, maxTokens },
      { signal: new AbortController().signal }
    )
    right += await rightGuesses(draft, answer)
    guesses += answer.tokens.length
    await draft.end([...answer.prompt, ...answer.tokens])
  }
  return right / guesses
}

const percent = (share: number) => `${(100 * share).toFixed(1)} %`
for (const [name, sampling] of [
  ['greedy', GREEDY],
  ['temperature 0.8, top-p 0.95', SEEDED]
] as const) {
  const answers = await answersOf(runtime, store, target, { prompts, sampling, most })
  const tokens = answers.reduce((sum, answer) => sum + answer.tokens.length, 0)
  console.log(`${name}: ${answers.length} answers, ${tokens} tokens`)
  const rows: [string, DraftKind, string][] = [
    ['said before in the conversation', 'ngram', ''],
    ['and in earlier answers to the same client', 'ngram', 'client'],
    ['draft model', 'model', ''],
    ['both, in the conversation', 'both', ''],
    ['both, and in earlier answers', 'both', 'client']
  ]
  for (const [what, kind, scope] of rows) {
    console.log(`  ${percent(await shareOf(answers, kind, scope)).padStart(7)}  ${what}`)
  }
}
await runtime.stop()
