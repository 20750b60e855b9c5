import { expect, test } from 'vitest'
import { ModelStore } from '../../../../models/store/store.ts'
import { BUNDLED_DIR } from '../../../../node/bundled.ts'
import { sideFilesOf, tokenizerOf } from '../../../../node/source/placement/model-tokenizer.ts'
import { estimatedTokens } from '../../../../node/source/request/estimated-tokens.ts'

const TEXTS = [
  'What does a thermostat do in a house where nobody is at home?',
  'The pump of the cooling circuit stops when the pressure falls below two bar.'
]

test('a placement has room for what a tokenizer makes of a prompt, and not for many times as much', async () => {
  const store = ModelStore.at(BUNDLED_DIR)
  const [model] = await store.list()
  const tokenizer = await tokenizerOf(await sideFilesOf(store, model!), model!.manifest)
  try {
    for (const text of TEXTS) {
      const { length } = await tokenizer.encode(text, { signal: new AbortController().signal })
      const estimated = estimatedTokens({ kind: 'raw', text })
      expect(estimated).toBeGreaterThanOrEqual(length)
      expect(estimated).toBeLessThan(4 * length)
    }
  } finally {
    await tokenizer.close()
  }
})

test('ids are counted, and of a conversation every message and every tool', () => {
  expect(estimatedTokens({ kind: 'ids', ids: [1, 2, 3] })).toBe(3)
  const one = estimatedTokens({ kind: 'chat', messages: [{ role: 'user', content: 'Hi' }] })
  const [user, assistant] = [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: 'Hello' }
  ] as const
  const two = estimatedTokens({ kind: 'chat', messages: [user, assistant] })
  const tools = [{ name: 'f', description: 'finds something', parameters: { type: 'object' } }]
  const three = estimatedTokens({ kind: 'chat', messages: [user, assistant], tools })
  expect(one).toBeLessThan(two)
  expect(two).toBeLessThan(three)
})
