import { describe, expect, test, vi } from 'vitest'
import { Grammars } from '../../../../models/grammar/grammars.ts'
import type { Tokenizer } from '../../../../models/tokenizer/tokenizer.ts'
import type { GenerateEvent, GenerateRequest, GenerateResult } from '../../../../node/api.ts'
import { EXPECTED_TOKENS } from '../../../../node/constants.ts'
import { StageLostError } from '../../../../node/errors.ts'
import { ComputedRuns } from '../../../../node/source/pipeline/computed-runs.ts'
import { Lead } from '../../../../node/source/pipeline/lead.ts'
import type { PromptableModel } from '../../../../node/source/placement/catalog.ts'
import type { DeploymentRequest, PlacedAnswer } from '../../../../node/source/placement/deployments.ts'
import type { AheadNeeds, PlacedAhead } from '../../../../node/source/placement/placed-ahead.ts'
import { generate } from '../../../../node/source/request/generate.ts'
import { noticeOf } from '../../../../node/source/request/notices.ts'
import type { FinishedAnswer } from '../../../../node/source/verify/spot-checks.ts'
import { MODEL } from '../simulated-answer.ts'

const codesOf = (text: string) => [...text].map(letter => letter.codePointAt(0)!)
const END = 3
const END_OF_TURN = 4

/** Every letter is a token; the euro sign takes two, of which only the second has a text. */
function lettersOf(chatTemplate: string | null): Tokenizer {
  const EURO = [200, 201]
  return {
    chatTemplate,
    endOfTurnIds: [END_OF_TURN],
    closingId: undefined,
    vocabSize: 256,
    startCpuMs: 0,
    encode: async text => codesOf(text),
    encodeChat: async (messages, { behind = '' } = {}) =>
      codesOf(messages.map(({ role, content }) => `${role[0]}${content};`).join('') + behind),
    decoder: ({ continuation = false } = {}) => {
      let first = !continuation
      return {
        push: id => {
          const text = id === EURO[0] ? '' : id === EURO[1] ? '€' : String.fromCodePoint(id)
          const shown = first ? text.trimStart() : text
          if (text !== '') first = false
          return shown
        },
        flush: () => ''
      }
    },
    tokenBytes: id => Uint8Array.of(id),
    close: async () => {}
  }
}

interface Played {
  chatTemplate?: string | null
  /** What is drawn; an error where the stage is lost. */
  drawn: (number | Error)[]
  /** Tokens that the KV caches have room for beyond what is asked; absent: nothing more is to be had. */
  spare?: number
}

/** What a node answers that draws these tokens. */
function nodeThatDraws({ chatTemplate = '{{ messages }}', drawn, spare = 0 }: Played) {
  const { name, id } = MODEL
  const manifest = { ...MODEL.manifest, eosTokenIds: [END] }
  const model: PromptableModel = { name, id, manifest, tokenizer: lettersOf(chatTemplate) }
  const asked: DeploymentRequest[] = []
  let closed = 0
  let nowMs = 0
  const deployments = {
    prepare: () => {},
    placeAhead: vi.fn((_needs: AheadNeeds, _until: AbortSignal): PlacedAhead | undefined => undefined),
    async *acquire(request: DeploymentRequest): AsyncGenerator<GenerateEvent, PlacedAnswer> {
      asked.push(request)
      return {
        plan: { stages: [] },
        predicted: { ttftMs: 5, tpotMs: 2, stages: [], linksMs: [] },
        planMs: 1,
        roomTokens: Math.min(request.mostTokens!, request.newTokens + spare),
        answer: {
          cachedTokens: 0,
          prefilled: (async function* () {})(),
          guesses: undefined,
          exact: false,
          measured: { means: { steps: 0, sequences: 0, contextTokens: 0, stages: [], linksMs: [] } } as never,
          next: async () => {
            nowMs += 10
            const next = drawn.shift()
            if (next === undefined) throw new Error('nothing more was to be drawn')
            if (next instanceof Error) throw next
            return { id: next, logprob: -1, top: [{ id: next, logprob: -1 }] }
          },
          certain: new Lead([]),
          runs: new ComputedRuns(),
          behindTokens: 0,
          goAlone: () => {},
          pause: () => {},
          pooled: () => Promise.reject(new Error('nothing is pooled here')),
          close: async () => {}
        },
        goesOn: () => undefined,
        firstToken: () => {},
        giveBack: async () => void closed++
      }
    }
  }
  const components = {
    catalog: {
      promptable: async (_?: string, { onKnown }: { onKnown?: (known: typeof model) => void } = {}) => {
        onKnown?.(model)
        return model
      }
    },
    deployments,
    grammars: new Grammars(),
    now: () => nowMs
  }
  const events: GenerateEvent[] = []
  const answer = async (request: Partial<GenerateRequest>, signal = new AbortController().signal) => {
    const input = { kind: 'chat' as const, messages: [{ role: 'user' as const, content: 'Hi' }] }
    for await (const event of generate(components, { input, ...request }, { signal, requestId: 'r' }))
      events.push(event)
    const done = events.at(-1)
    return done?.type === 'done' ? done.result : undefined
  }
  const texts = () => events.flatMap(event => (event.type === 'text' ? [event.text] : []))
  return { answer, events, texts, asked, closed: () => closed, components }
}

test('an answer ends with the model’s own end, which is no part of it', async () => {
  const { answer, texts, asked, closed } = nodeThatDraws({ drawn: [...codesOf(' Hello'), END] })
  expect(await answer({})).toMatchObject({
    text: 'Hello',
    tokens: codesOf(' Hello'),
    promptTokens: 4,
    finishReason: 'stop',
    ttftMs: 10,
    tpotMs: 10,
    recoveries: 0
  } satisfies Partial<GenerateResult>)
  expect(texts().join('')).toBe('Hello')
  expect(asked[0]).toMatchObject({
    prompt: codesOf('uHi;'),
    promptTokens: 4,
    ends: new Set([END, END_OF_TURN])
  })
  expect(closed()).toBe(1)
})

test('what guesses for an answer is opened for it, ended with it, and told what was said where that ended well', async () => {
  const opened: object[] = []
  const ended: (readonly number[])[] = []
  const draft = {
    kind: 'ngram' as const,
    propose: () => [],
    end: async (tokens: readonly number[] = []) => void ended.push(tokens)
  }
  const drafts = {
    mayGuess: () => true,
    open: async (asked: object) => {
      opened.push(asked)
      return draft
    }
  }
  const well = nodeThatDraws({ drawn: [65, END] })
  Object.assign(well.components, { drafts })
  await well.answer({ speculate: 'ngram', draft: 'small', conversation: 'mine', maxTokens: 9 })
  expect(opened).toMatchObject([{ speculate: 'ngram', named: 'small', scope: 'mine', maxTokens: 4 + 9 }])
  expect(well.asked[0]!.draft).toBe(draft)
  expect(ended).toEqual([[...codesOf('uHi;'), 65]])
  const broken = nodeThatDraws({ drawn: [new Error('lost')] })
  Object.assign(broken.components, { drafts })
  await expect(broken.answer({})).rejects.toThrow('lost')
  expect(ended.at(-1)).toEqual([])
})

test('an answer that has ended well is given to be checked, one that lost a stage or its end is not', async () => {
  const checked: FinishedAnswer[] = []
  const checks = { answered: (answer: FinishedAnswer) => void checked.push(answer) }
  const lost = () => new StageLostError('stage lost: b', 'b')
  const whole = nodeThatDraws({ drawn: [65, 66, END] })
  Object.assign(whole.components, { checks })
  await whole.answer({ seed: 5, temperature: 0.5 })
  expect(checked).toEqual([
    expect.objectContaining({
      modelId: MODEL.id,
      prompt: codesOf('uHi;'),
      tokens: [65, 66],
      sampling: expect.objectContaining({ seed: 5, temperature: 0.5 }),
      stages: []
    })
  ])
  for (const drawn of [
    [65, lost(), 66, END],
    [65, new Error('the rest is too small')]
  ]) {
    const broken = nodeThatDraws({ drawn })
    Object.assign(broken.components, { checks })
    expect(await broken.answer({})).toMatchObject({ tokens: expect.arrayContaining([65]) })
  }
  expect(checked).toHaveLength(1)
})

test('an end of turn ends it too, and is drawn past where that is asked for', async () => {
  const one = nodeThatDraws({ drawn: [65, END_OF_TURN] })
  expect(await one.answer({})).toMatchObject({ text: 'A', finishReason: 'stop' })
  const past = nodeThatDraws({ drawn: [65, END_OF_TURN, 66] })
  expect(await past.answer({ ignoreEos: true, maxTokens: 3 })).toMatchObject({
    tokens: [65, END_OF_TURN, 66],
    finishReason: 'length'
  })
})

test('a stop string is not shown, nor what might be the beginning of one', async () => {
  const { answer, texts } = nodeThatDraws({ drawn: codesOf('one, two, three') })
  expect(await answer({ stop: [', th'] })).toMatchObject({ text: 'one, two', finishReason: 'stop' })
  expect(texts().every(text => !text.endsWith(','))).toBe(true)
})

test('what looked like a stop string until the end is shown then', async () => {
  const { answer } = nodeThatDraws({ drawn: [...codesOf('one, t'), END] })
  expect(await answer({ stop: [', th'] })).toMatchObject({ text: 'one, t' })
})

test('a character comes with all of its tokens', async () => {
  const { answer, events } = nodeThatDraws({ drawn: [65, 200, 201] })
  await answer({ maxTokens: 3 })
  const shown = events.flatMap(event => (event.type === 'text' ? [[event.text, event.tokens]] : []))
  expect(shown).toEqual([
    ['A', [65]],
    ['€', [200, 201]]
  ])
})

test('log-probabilities come with the bytes of their tokens', async () => {
  const { answer, events } = nodeThatDraws({ drawn: [65] })
  await answer({ maxTokens: 1 })
  expect(events.find(({ type }) => type === 'text')).toMatchObject({
    logprobs: [{ id: 65, logprob: -1, bytes: [65], top: [{ id: 65, bytes: [65] }] }]
  })
})

test('an answer without a limit ends at the context, and is planned for no more than is expected at a time', async () => {
  const { contextLength } = MODEL.manifest.shape
  const { answer, asked } = nodeThatDraws({ drawn: Array(contextLength).fill(65), spare: 100 })
  const result = await answer({})
  expect(result).toMatchObject({ finishReason: 'length', recoveries: 0 })
  expect(result!.tokens).toHaveLength(contextLength - 4)
  expect(asked[0]).toMatchObject({ newTokens: EXPECTED_TOKENS, mostTokens: contextLength - 4, known: [] })
  // Each time for twice as much as there is.
  expect(asked.map(({ known }) => known.length)).toEqual([0, 356, 816])
  expect(asked.at(-1)!.newTokens).toBe(contextLength - 4)
})

test('an answer with a limit is planned for all of it', async () => {
  const { answer, asked } = nodeThatDraws({ drawn: Array(700).fill(65) })
  expect((await answer({ maxTokens: 700 }))!.tokens).toHaveLength(700)
  expect(asked).toMatchObject([{ newTokens: 700, mostTokens: 700 }])
})

test('what fails behind the first token ends the answer with what there is', async () => {
  const lost = new Error('the rest cannot hold the model')
  const { answer, closed } = nodeThatDraws({ drawn: [65, 66, lost] })
  expect(await answer({})).toMatchObject({ text: 'AB', finishReason: 'error', error: lost.message })
  expect(closed()).toBe(1)
})

test('what fails before the first token is the request’s failure', async () => {
  const { answer, closed } = nodeThatDraws({ drawn: [new Error('no memory')] })
  await expect(answer({})).rejects.toThrow('no memory')
  expect(closed()).toBe(1)
})

test('a loss between tokens is told, and what it cost', async () => {
  const { answer, events, asked } = nodeThatDraws({
    drawn: [65, new StageLostError('b is gone', 'b'), 66, END]
  })
  expect(await answer({})).toMatchObject({ text: 'AB', recoveries: 1 })
  expect(asked[1]).toMatchObject({ known: [65], avoid: new Set(['b']), lost: { peerId: 'b' } })
  const notices = events.flatMap(event => noticeOf(event) ?? [])
  expect(notices[0]).toBe('b is gone; its layers are placed anew')
  expect(notices[1]).toMatch(
    /^the answer goes on: the next token came after \d+ ms: noticed after .* KV cache rebuilt in \d+ ms$/
  )
  expect(notices).toHaveLength(2)
})

test('an answer that a loss ends is not said to go on', async () => {
  const { answer, events } = nodeThatDraws({
    drawn: [65, new StageLostError('b is gone', 'b'), new Error('the rest cannot hold the model')]
  })
  expect(await answer({})).toMatchObject({ text: 'A', recoveries: 1, finishReason: 'error' })
  expect(events.flatMap(event => noticeOf(event) ?? [])).toEqual([
    'b is gone; its layers are placed anew',
    'the answer ended unfinished, at token 1'
  ])
})

test('who leaves in the middle gives the session back', async () => {
  const { components, closed } = nodeThatDraws({ drawn: codesOf('Hello') })
  const input = { kind: 'raw' as const, text: 'x' }
  const events = generate(components, { input }, { signal: new AbortController().signal, requestId: 'r' })
  for await (const { type } of events) if (type === 'text') break
  expect(closed()).toBe(1)
})

test('a prompt that is aborted has no result', async () => {
  const abort = new AbortController()
  const { components } = nodeThatDraws({ drawn: [65, 66] })
  const input = { kind: 'raw' as const, text: 'x' }
  const read = async () => {
    for await (const { type } of generate(
      components,
      { input, maxTokens: 2 },
      { signal: abort.signal, requestId: 'r' }
    )) {
      if (type === 'text') abort.abort(new Error('enough'))
    }
  }
  await expect(read()).rejects.toThrow('enough')
})

test('a raw prompt is continued; a chat needs a template, unless it is a single prompt', async () => {
  const raw = nodeThatDraws({ drawn: codesOf(' x'), chatTemplate: null })
  expect(await raw.answer({ input: { kind: 'raw', text: 'Say' }, maxTokens: 2 })).toMatchObject({
    text: ' x'
  })
  const single = nodeThatDraws({ drawn: [65], chatTemplate: null })
  expect(await single.answer({ maxTokens: 1 })).toMatchObject({ promptTokens: 2 })
  const chat = nodeThatDraws({ drawn: [], chatTemplate: null })
  const messages = [
    { role: 'user' as const, content: 'Hi' },
    { role: 'assistant' as const, content: 'Hi' }
  ]
  await expect(chat.answer({ input: { kind: 'chat', messages } })).rejects.toMatchObject({
    name: 'RequestError',
    param: 'messages'
  })
})

test('a prompt must not be empty, and leaves room in the context', async () => {
  const { answer } = nodeThatDraws({ drawn: [] })
  await expect(answer({ input: { kind: 'raw', text: '' } })).rejects.toThrow('the prompt is empty')
  const { contextLength } = MODEL.manifest.shape
  const text = 'x'.repeat(contextLength)
  await expect(answer({ input: { kind: 'raw', text } })).rejects.toMatchObject({ name: 'ContextLengthError' })
  const most = nodeThatDraws({ drawn: [65, 66, 67] })
  const long = { kind: 'raw' as const, text: text.slice(2) }
  expect(await most.answer({ input: long })).toMatchObject({ tokens: [65, 66], finishReason: 'length' })
})

describe('a reply that is split', () => {
  const HERMES = '{{ tools }}<tool_call></think>'
  const tools = [{ name: 'clock' }, { name: 'weather' }]
  const input = { kind: 'chat' as const, messages: [{ role: 'user', content: 'Hi' }], tools, split: true }
  const WRITTEN =
    '<think>Hm.</think>I look.\n<tool_call>{"name": "clock", "arguments": {"a": 1}}</tool_call>' +
    '<tool_call>{"name": "weather"}</tool_call>'

  test('becomes thoughts, text and calls, told of before in which form the tools are put', async () => {
    const { answer, events } = nodeThatDraws({ chatTemplate: HERMES, drawn: [...codesOf(WRITTEN), END] })
    const result = await answer({ input })
    expect(result).toMatchObject({
      text: 'I look.',
      reasoning: 'Hm.',
      finishReason: 'stop',
      toolCalls: [
        { name: 'clock', arguments: '{"a": 1}', id: expect.stringMatching(/^call_[0-9a-f]{24}$/) },
        { name: 'weather', arguments: '{}' }
      ]
    })
    expect(result!.tokens).toEqual(codesOf(WRITTEN))
    expect(new Set(result!.toolCalls!.map(({ id }) => id)).size).toBe(2)
    expect(events[0]).toEqual({ type: 'prompt', tokens: 4, tools: 'template', unread: [] })
    const pieces = (type: 'text' | 'reasoning' | 'arguments') =>
      events.flatMap(event => (event.type === type ? [event.text] : []))
    expect(pieces('text').join('')).toBe('I look.')
    expect(pieces('reasoning').join('')).toBe('Hm.')
    // Every token of the arguments is told of as it is drawn.
    expect(pieces('arguments')).toEqual(['{', '"', 'a', '"', ':', ' ', '1', '}', '{}'])
    const shown = events.flatMap(event =>
      event.type === 'text' || event.type === 'reasoning' ? event.tokens : []
    )
    expect(String.fromCodePoint(...shown)).toContain('I look.')
  })

  test('ends behind its first call where only one is wanted', async () => {
    const { answer } = nodeThatDraws({ chatTemplate: HERMES, drawn: codesOf(WRITTEN) })
    expect(await answer({ input: { ...input, parallel: false } })).toMatchObject({
      finishReason: 'stop',
      toolCalls: [{ name: 'clock' }]
    })
  })

  test('has as text what was cut off within a call', async () => {
    const written = '<tool_call>{"name": "clock", "argu'
    const { answer, events } = nodeThatDraws({ chatTemplate: HERMES, drawn: codesOf(written) })
    const result = await answer({ input, maxTokens: written.length })
    expect(result).toMatchObject({ text: written, finishReason: 'length' })
    expect(result).not.toHaveProperty('toolCalls')
    expect(events.filter(({ type }) => type === 'called')).toEqual([])
  })

  test('is text as it is where that was not asked', async () => {
    const { answer } = nodeThatDraws({ chatTemplate: HERMES, drawn: [...codesOf(WRITTEN), END] })
    const { split: _, ...plain } = input
    expect(await answer({ input: plain })).toMatchObject({ text: WRITTEN })
  })

  test('of Harmony goes on behind a message, which its template ends like a turn', async () => {
    const written = '<|channel|>analysis<|message|>Hm.'
    const drawn = [...codesOf(written), END_OF_TURN, ...codesOf('x'), END]
    const { answer } = nodeThatDraws({ chatTemplate: '<|channel|>{{ tools }}', drawn })
    expect((await answer({ input }))!.tokens).toHaveLength(written.length + 2)
  })

  test('of Harmony has its thoughts apart, also where all of it is wanted as text', async () => {
    const written =
      '<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.'
    const { answer } = nodeThatDraws({
      chatTemplate: '<|channel|>{{ messages }}',
      drawn: [...codesOf(written), END]
    })
    const plain = { kind: 'chat' as const, messages: [{ role: 'user' as const, content: 'Hi' }] }
    expect(await answer({ input: plain })).toMatchObject({ text: 'Yes.', reasoning: 'Hm.' })
  })

  test('needs a template for tools', async () => {
    const { answer } = nodeThatDraws({ chatTemplate: null, drawn: [] })
    await expect(answer({ input })).rejects.toThrow('neither a conversation nor tools')
  })
})

test('a prompt may be token ids, which the model must have', async () => {
  const { answer, asked } = nodeThatDraws({ drawn: codesOf(' x') })
  expect(await answer({ input: { kind: 'ids', ids: [65, 66] }, maxTokens: 2 })).toMatchObject({
    text: ' x',
    promptTokens: 2
  })
  expect(asked[0]!.prompt).toEqual([65, 66])
  const strange = nodeThatDraws({ drawn: [] }).answer({ input: { kind: 'ids', ids: [65, 256] } })
  await expect(strange).rejects.toMatchObject({ name: 'RequestError', param: 'prompt' })
})

test('the stop string that ended an answer is named', async () => {
  const { answer } = nodeThatDraws({ drawn: codesOf('one two') })
  expect(await answer({ stop: ['four', ' tw'] })).toMatchObject({ text: 'one', stopString: ' tw' })
})

test('before its least tokens no stop string ends an answer, and whoever draws is told which tokens may not', async () => {
  const { answer, texts, asked } = nodeThatDraws({ drawn: codesOf('a.b.') })
  const result = await answer({ stop: ['.'], stopTokenIds: [7], minTokens: 2, seed: 5 })
  expect(result).toMatchObject({ text: 'a.b', finishReason: 'stop', stopString: '.' })
  expect(texts().join('')).toBe('a.b')
  expect(asked[0]!.sampling).toMatchObject({ minTokens: 2, ends: [7, END, END_OF_TURN] })
  expect(asked[0]!.ends).toEqual(new Set([7, END, END_OF_TURN]))
})

test('a token that the client names ends an answer even where the model’s own do not, and is no part of it', async () => {
  const { answer, asked } = nodeThatDraws({ drawn: [...codesOf('a'), END, 7] })
  const result = await answer({ stopTokenIds: [7], ignoreEos: true })
  expect(result).toMatchObject({ tokens: [...codesOf('a'), END], finishReason: 'stop' })
  expect(asked[0]!.sampling).not.toHaveProperty('ends')
})

test.each([
  ['stopTokenIds', { stopTokenIds: [MODEL.manifest.shape.vocabSize] }],
  ['logitBias', { logitBias: { [MODEL.manifest.shape.vocabSize]: 1 } }]
])('%s of tokens that the model does not have are refused', async (param, request) => {
  const { answer, asked } = nodeThatDraws({ drawn: [] })
  await expect(answer(request)).rejects.toMatchObject({ name: 'RequestError', param })
  expect(asked).toEqual([])
})

describe('tools beside a form', () => {
  const input: GenerateRequest['input'] = {
    kind: 'chat',
    messages: [{ role: 'user', content: 'Hi' }],
    tools: [{ name: 'f', parameters: {} }],
    split: true
  }
  const constraint: GenerateRequest['constraint'] = { kind: 'schema', schema: { type: 'object' } }

  test('are refused where the model may call or not', async () => {
    const { answer, asked } = nodeThatDraws({ drawn: [] })
    await expect(answer({ input, constraint })).rejects.toMatchObject({
      name: 'RequestError',
      param: 'tools'
    })
    expect(asked).toEqual([])
  })

  test.each(['required', { name: 'f' }] as const)('are called where they have to be: %j', async choice => {
    const { answer, components } = nodeThatDraws({
      drawn: [...codesOf('{"name":"f","arguments":{"a":1}}'), END]
    })
    try {
      const result = await answer({ input: { ...input, choice }, constraint })
      expect(result).toMatchObject({ toolCalls: [{ name: 'f', arguments: '{"a":1}' }], finishReason: 'stop' })
    } finally {
      components.grammars.close()
    }
  })
})

test('others stand by as the node was started, or as the request says', async () => {
  const usual = nodeThatDraws({ drawn: [65, END, 65, END, 65, END] })
  await usual.answer({})
  Object.assign(usual.components, { standby: true })
  await usual.answer({})
  await usual.answer({ standby: false })
  expect(usual.asked.map(({ standby }) => standby)).toEqual([false, true, false])
})

describe('before its prompt is read', () => {
  const guessing = (mayGuess: boolean) => ({
    drafts: { mayGuess: () => mayGuess, open: async () => undefined }
  })

  test('a model is placed for a request, with room for all of its tokens, and for what it will ask', async () => {
    const { answer, asked, components } = nodeThatDraws({ drawn: [65, END] })
    const { placeAhead } = components.deployments
    const begun = {} as PlacedAhead
    placeAhead.mockReturnValueOnce(begun)
    await answer({ maxTokens: 7, objective: 'latency', privacy: 'sealed', exact: true, keepAliveMs: 5 })
    const [needs, until] = placeAhead.mock.calls[0]!
    expect(needs).toMatchObject({
      newTokens: 7,
      privacy: 'sealed',
      exact: true,
      keepAliveMs: 5,
      requestId: 'r'
    })
    expect(needs.promptTokens).toBeGreaterThanOrEqual(asked[0]!.promptTokens)
    expect(asked[0]!.ahead).toBe(begun)
    expect(until.aborted).toBe(true)
  })

  test('a prompt that is refused ends what was begun for it', async () => {
    const { answer, components } = nodeThatDraws({ chatTemplate: null, drawn: [] })
    const turns = ['user', 'assistant', 'user'].map(role => ({ role: role as 'user', content: 'Hi' }))
    await expect(answer({ input: { kind: 'chat', messages: turns } })).rejects.toThrow('no chat template')
    const [, until] = components.deployments.placeAhead.mock.calls[0]!
    expect(until.aborted).toBe(true)
  })

  test('nothing is placed where its plan hangs on guesses, which are known with its tokens', async () => {
    for (const mayGuess of [true, false]) {
      const { answer, components } = nodeThatDraws({ drawn: [65, END] })
      Object.assign(components, guessing(mayGuess))
      await answer({})
      expect(components.deployments.placeAhead.mock.calls).toHaveLength(mayGuess ? 0 : 1)
    }
  })
})
