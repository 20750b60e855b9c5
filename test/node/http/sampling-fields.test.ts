import { describe, expect, test } from 'vitest'
import type { GenerateRequest } from '../../../node/api.ts'
import { parseMessages } from '../../../node/http/anthropic/schema.ts'
import { parseGenerate } from '../../../node/http/mesh-schema.ts'
import { parseOllama } from '../../../node/http/ollama/schema.ts'
import { parseResponses } from '../../../node/http/openai/responses-schema.ts'
import { parseChat, parseCompletion } from '../../../node/http/openai/schema.ts'
import { settingsOf } from '../../../node/source/request/settings.ts'
import { SAMPLING_FIELDS } from '../../fixtures/sampling-fields.ts'

interface Parsed {
  request: GenerateRequest | null
  ignored: readonly string[]
}
type Door = (fields: object) => Parsed

const messages = [{ role: 'user', content: 'Once' }]
const OLLAMA: Door = options => parseOllama('chat', { model: 'M', messages, options })
const DOORS: [name: string, door: Door][] = [
  ['/v1/chat/completions', fields => parseChat({ messages, ...fields })],
  ['/v1/completions', fields => parseCompletion({ prompt: 'Once', ...fields })],
  ['/v1/responses', fields => parseResponses({ input: 'Once', ...fields })],
  ['/v1/messages', fields => parseMessages({ model: 'M', max_tokens: 9, messages, ...fields })],
  ["Ollama's /api/chat", OLLAMA],
  ["Ollama's /api/generate", options => parseOllama('generate', { model: 'M', prompt: 'Once', options })]
]
/** What nothing is drawn otherwise for: settings without what a seed makes. */
const drawing = (request: GenerateRequest) => {
  const { sampling, ignoreEos, stopTokenIds } = settingsOf({ ...request, seed: 1 })
  return { sampling, ignoreEos, stopTokenIds }
}

describe.each(DOORS)('%s', (_, door) => {
  test.each(SAMPLING_FIELDS)('takes %s = %j', (field, value, asks, neutral) => {
    const isOllama = door === OLLAMA || door === DOORS.at(-1)![1]
    const usual = isOllama && field.endsWith('penalty') ? { penaltyWindow: 64 } : {}
    const { request, ignored } = door({ [field]: value })
    expect(request).toMatchObject({ ...usual, ...asks })
    const isRepetition = asks.repetitionPenalty !== undefined
    // What of it is not done is said: the prompt's tokens do not count.
    expect(ignored.map(name => name.replace('options.', ''))).toEqual(isRepetition ? [`${field}.prompt`] : [])
    const plain = drawing(door({}).request!)
    for (const asksNothing of [neutral, null]) {
      const parsed = door({ [field]: asksNothing })
      expect(drawing(parsed.request!)).toEqual(plain)
      expect(parsed.ignored).toEqual([])
    }
  })

  test.each([
    ['top_k', -2],
    ['top_k', 1.5],
    ['min_p', 1.1],
    ['repetition_penalty', 0],
    ['repeat_penalty', 101],
    ['repeat_last_n', 4097],
    ['frequency_penalty', 2.1],
    ['presence_penalty', 'a'],
    ['logit_bias', { 5: 101 }],
    ['logit_bias', { hello: 1 }],
    ['logit_bias', Object.fromEntries(Array.from({ length: 513 }, (_, id) => [id, 1]))],
    ['stop_token_ids', [-1]],
    ['stop_token_ids', Array.from({ length: 65 }, (_, id) => id)],
    ['min_tokens', -1],
    ['ignore_eos', 'yes']
  ])('refuses %s = %j by its name', (field, value) => {
    expect(() => door({ [field]: value })).toThrow(field)
  })

  test('counts all that can be, or so many last tokens, or none, as the client says', () => {
    const window = (fields: object) => door({ presence_penalty: 1, ...fields }).request!.penaltyWindow
    expect([window({ repeat_last_n: -1 }), window({ repeat_last_n: 0 })]).toEqual([undefined, 0])
    expect(window({ penalty_last_n: 9, repeat_penalty: 1.1 })).toBe(9)
  })

  test('refuses two names of one thing that say different things, and takes them where they agree', () => {
    expect(() => door({ repetition_penalty: 1.1, repeat_penalty: 1.2 })).toThrow('repetition_penalty')
    expect(door({ min_tokens: 5, min_new_tokens: 5 }).request).toMatchObject({ minTokens: 5 })
  })
})

test('the node takes its own request as it is', () => {
  const all = Object.assign({}, ...SAMPLING_FIELDS.map(([, , asks]) => asks)) as Partial<GenerateRequest>
  const body = { input: { kind: 'raw', text: 'Once' }, ...all }
  expect(parseGenerate(body)).toEqual(body)
})

describe('several choices', () => {
  test('have neighbouring seeds, each of every prompt', () => {
    const { requests, choicesOfEach } = parseCompletion({ prompt: ['a', 'b'], n: 2, seed: 7 })
    expect(choicesOfEach).toBe(2)
    expect(requests.map(({ input, seed }) => [input.kind === 'raw' && input.text, seed])).toEqual([
      ['a', 7],
      ['a', 8],
      ['b', 7],
      ['b', 8]
    ])
    expect(parseChat({ messages, n: 3 }).requests.map(({ seed }) => seed)).toEqual([
      undefined,
      undefined,
      undefined
    ])
    expect(parseChat({ messages }).requests).toHaveLength(1)
  })

  test.each([
    [{ n: 0 }, 'n'],
    [{ n: 129 }, 'n'],
    [{ prompt: Array.from({ length: 100 }, () => 'a'), n: 3 }, 'n'],
    [{ n: 2, best_of: 2 }, 'best_of'],
    [{ best_of: 3 }, 'best_of']
  ])('%j is refused by %s', (fields, name) => {
    expect(() => parseCompletion({ prompt: 'Once', ...fields })).toThrow(`${name}: `)
  })
})
