import OpenAI from 'openai'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startHttpServer } from '../../node/http/index.ts'
import type { EdgeNode, GenerateRequest, GenerateResult } from '../../node/index.ts'
import { answer, ask, Nodes, nextOf } from '../fixtures/nodes.ts'

const QUESTION = 'Tell me a story about a robot and a lamp.'
const SEEDED = { temperature: 1, topP: 1, seed: 11, maxTokens: 24 }
/** Whose tokens depend on all those before them. */
const ALL = {
  ...{ topK: 60, minP: 0.01, repetitionPenalty: 1.2, frequencyPenalty: 0.3, presencePenalty: 0.2 },
  ...{ penaltyWindow: 16, logitBias: { 300: 1.5 }, minTokens: 40, maxTokens: 48 }
}

/** Which ends after 12 tokens. */
const SHORT = { ...ask('Say hello.'), maxTokens: 24 }

type Drawn = Pick<GenerateResult, 'tokens' | 'finishReason'>
/** What an answer is beside the one without a parameter, and beside the likeliest tokens. */
type Effect = (drawn: Drawn, plain: Drawn, greedy: Drawn) => void

const differs: Effect = ({ tokens }, plain) => expect(tokens).not.toEqual(plain.tokens)
const isGreedy: Effect = ({ tokens }, _, greedy) => expect(tokens).toEqual(greedy.tokens)
const isPlain: Effect = ({ tokens }, plain) => expect(tokens).toEqual(plain.tokens)
const count = ({ tokens }: Drawn, id: number) => tokens.filter(token => token === id).length
const most = ({ tokens }: Drawn) => Math.max(...tokens.map(id => count({ tokens } as Drawn, id)))

/** Each parameter of drawing, made of an answer without it, and what it does. */
const MATRIX: [name: string, asks: (plain: Drawn) => Partial<GenerateRequest>, effect: Effect][] = [
  ['topK', () => ({ topK: 2 }), differs],
  ['topK of one', () => ({ topK: 1 }), isGreedy],
  ['minP', () => ({ minP: 0.5 }), differs],
  ['minP of all', () => ({ minP: 1 }), isGreedy],
  ['repetitionPenalty', () => ({ repetitionPenalty: 100 }), drawn => expect(most(drawn)).toBeLessThan(3)],
  ['frequencyPenalty', () => ({ frequencyPenalty: 2 }), differs],
  ['frequencyPenalty below 0', () => ({ frequencyPenalty: -2 }), differs],
  ['presencePenalty', () => ({ presencePenalty: 2 }), differs],
  [
    'penaltyWindow',
    // Two that are far likelier than any other: with a window of one the last of them makes way for the other.
    () => ({ logitBias: { 300: 60, 301: 55 }, repetitionPenalty: 100, penaltyWindow: 1 }),
    ({ tokens }) => {
      expect(new Set(tokens)).toEqual(new Set([300, 301]))
      expect(tokens.every((id, i) => id !== tokens[i + 1])).toBe(true)
    }
  ],
  ['penaltyWindow of none', () => ({ presencePenalty: 2, penaltyWindow: 0 }), isPlain],
  [
    'logitBias',
    ({ tokens: [first] }) => ({ logitBias: { [first!]: -100 } }),
    (drawn, { tokens: [first] }) => expect(count(drawn, first!)).toBe(0)
  ],
  [
    'logitBias that makes certain',
    () => ({ logitBias: { 300: 100 } }),
    drawn => expect(count(drawn, 300)).toBe(drawn.tokens.length)
  ],
  [
    'stopTokenIds',
    ({ tokens }) => ({ stopTokenIds: [tokens[9]!] }),
    ({ tokens, finishReason }, plain) => {
      expect(finishReason).toBe('stop')
      expect(tokens).toEqual(plain.tokens.slice(0, plain.tokens.indexOf(plain.tokens[9]!)))
    }
  ],
  [
    'minTokens',
    ({ tokens }) => ({ stopTokenIds: [tokens[3]!], minTokens: 12 }),
    (drawn, { tokens }) => {
      expect(drawn.tokens.length).toBeGreaterThanOrEqual(12)
      expect(count(drawn, tokens[3]!)).toBe(0)
    }
  ],
  ['an answer that ends by itself', () => SHORT, drawn => expect(drawn.finishReason).toBe('stop')],
  [
    'ignoreEos',
    () => ({ ...SHORT, ignoreEos: true }),
    ({ tokens, finishReason }) => expect([tokens.length, finishReason]).toEqual([SHORT.maxTokens, 'length'])
  ],
  [
    'minTokens behind its end',
    () => ({ ...SHORT, minTokens: 20 }),
    ({ tokens }) => expect(tokens.length).toBeGreaterThanOrEqual(20)
  ]
]

let nodes: Nodes
let alone: EdgeNode
let mesh: EdgeNode[]
let plain: Drawn
let greedy: Drawn
beforeAll(async () => {
  nodes = new Nodes()
  alone = await nodes.add({ name: 'alone' })
  mesh = await nodes.mesh(['a', 'b', 'c', 'd'], 0.5)
  plain = await drawn({})
  greedy = await drawn({ temperature: 0 })
})
afterAll(async () => {
  await nodes[Symbol.asyncDispose]()
})

/** A request's answer, the same over several nodes as on one. */
async function drawn(over: Partial<GenerateRequest>): Promise<Drawn> {
  const request = ask(QUESTION, { ...SEEDED, ...over })
  const { tokens, finishReason } = await answer(alone, request)
  const cut = await answer(mesh[0]!, request)
  expect(cut.plan.stages.length).toBeGreaterThan(1)
  expect([cut.tokens, cut.finishReason]).toEqual([tokens, finishReason])
  return { tokens, finishReason }
}

test.each(MATRIX)(
  '%s changes or bounds an answer, the same wherever it is drawn',
  async (_, asks, effect) => {
    effect(await drawn(asks(plain)), plain, greedy)
  }
)

test('of several choices over HTTP each is the answer that its seed has alone', async () => {
  const server = await startHttpServer({ node: mesh[0]!, host: '127.0.0.1', port: 0 })
  try {
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 })
    const fields = { top_k: 20, min_p: 0.02, repeat_penalty: 1.2, exact: true }
    const body = {
      model: 'edgeshard-tiny',
      messages: [{ role: 'user' as const, content: QUESTION }],
      ...{ temperature: 0.9, top_p: 1, seed: 11, max_tokens: 12, ...fields }
    }
    const { choices, usage } = await client.chat.completions.create({ ...body, n: 3 })
    const singly: (string | null)[] = []
    for (const seed of [11, 12, 13]) {
      const one = await client.chat.completions.create({ ...body, seed })
      singly.push(one.choices[0]!.message.content)
      expect(usage!.prompt_tokens).toBe(one.usage!.prompt_tokens)
    }
    expect(choices.map(({ index, message }) => [index, message.content])).toEqual([...singly.entries()])
    expect(new Set(singly).size).toBe(3)
  } finally {
    await server.stop()
  }
})

test('all of it is the same with guesses, and where the stage that draws is lost in the middle', async () => {
  const source = mesh[0]!
  const request = ask(QUESTION, { ...SEEDED, ...ALL, speculate: 'ngram', conversation: 'mine' })
  const whole = await answer(alone, request)
  expect(whole.tokens.length).toBeGreaterThanOrEqual(40)
  expect((await answer(source, request)).tokens).toEqual(whole.tokens)
  const events = source.generate(request)
  const { plan } = await nextOf(events, 'plan')
  for (let i = 0; i < 12; i++) await nextOf(events, 'text')
  await mesh.find(({ peerId }) => peerId === plan.stages.at(-1)!.peerId)!.stop()
  const { result } = await nextOf(events, 'done')
  expect(result.recoveries).toBe(1)
  expect(result.tokens).toEqual(whole.tokens)
})
