import { randomManifest } from '../../../models/runtime/random-weights.ts'
import { Answers } from '../../../node/answers.ts'
import type {
  EdgeNode,
  EmbedRequest,
  GenerateEvent,
  GenerateRequest,
  GenerateResult,
  LoadOptions,
  MeshState,
  Move,
  PairingState
} from '../../../node/api.ts'
import { TINY_SHAPE } from '../../fixtures/random-model.ts'

const SELF = {
  peerId: '12D3KooWSelf',
  name: 'desk',
  version: '0.1.0',
  sequence: 1,
  hardware: { platform: 'linux', arch: 'x64', cpu: 'test', cores: 2, totalMemoryBytes: 2 ** 33 },
  memory: { budgetBytes: 2 ** 30, freeBytes: 2 ** 29 },
  models: [],
  leases: [],
  profiles: {},
  links: {}
}

export const RESULT: GenerateResult = {
  text: 'Hello 🦙',
  tokens: [5, 6, 7],
  promptTokens: 4,
  cachedTokens: 0,
  finishReason: 'stop',
  ttftMs: 12.5,
  tpotMs: 3.25,
  plan: {
    stages: [
      { peerId: '12D3KooWSelf', name: 'desk', layers: [0, 5], weightBytes: 100 },
      { peerId: '12D3KooWOther', name: 'lap\ntop', layers: [5, 10], weightBytes: 100 }
    ]
  },
  predicted: {
    ttftMs: 10,
    tpotMs: 3,
    stages: [{ computeMs: 1.25 }, { computeMs: 0.75 }],
    linksMs: [0.4, 0.6]
  },
  measured: {
    steps: 2,
    sequences: 1,
    contextTokens: 40,
    stages: [
      { computeMs: 1, waitMs: 0 },
      { computeMs: 1, waitMs: 0 }
    ],
    linksMs: [0.5, 0.5]
  },
  recoveries: 0
}

/** That the answer of `RESULT` lost a device and went on where others stood by. */
export const MOVE: Move = {
  reason: 'lost',
  from: RESULT.plan.stages,
  to: RESULT.plan.stages,
  tokens: 1,
  predicted: { beforeMs: 1, afterMs: 1, savedMs: 0, costMs: 0 },
  spent: { loadMs: 1, catchUpMs: 1, gapMs: 1 }
}

export const ANSWER: GenerateEvent[] = [
  { type: 'progress', phase: 'load', peer: 'desk', done: 1, total: 2 },
  { type: 'plan', plan: RESULT.plan, predicted: RESULT.predicted },
  {
    type: 'text',
    text: 'Hello',
    tokens: [5],
    logprobs: [{ id: 5, logprob: -0.5, bytes: [72, 101], top: [{ id: 5, logprob: -0.5, bytes: [72, 101] }] }]
  },
  { type: 'text', text: ' 🦙', tokens: [6, 7], logprobs: [] },
  { type: 'done', result: RESULT }
]

/** An answer with a thought and two calls, as a conversation that is split gets it. */
export const CALLING: GenerateEvent[] = [
  { type: 'prompt', tokens: 4, tools: 'template', unread: [] },
  { type: 'plan', plan: RESULT.plan, predicted: RESULT.predicted },
  { type: 'reasoning', text: 'Which city?', tokens: [1], logprobs: [] },
  { type: 'text', text: 'I look.', tokens: [2], logprobs: [] },
  { type: 'call', index: 0, id: 'call_1', name: 'weather' },
  { type: 'arguments', index: 0, text: '{"city":' },
  { type: 'arguments', index: 0, text: '"Rome"}' },
  { type: 'called', index: 0 },
  { type: 'call', index: 1, id: 'call_2', name: 'clock' },
  { type: 'arguments', index: 1, text: '{}' },
  { type: 'called', index: 1 },
  {
    type: 'done',
    result: {
      ...RESULT,
      text: 'I look.',
      reasoning: 'Which city?',
      toolCalls: [
        { id: 'call_1', name: 'weather', arguments: '{"city":"Rome"}' },
        { id: 'call_2', name: 'clock', arguments: '{}' }
      ]
    }
  }
]

/** Stands in for a mesh: answers every request with `generate`, and remembers what it was asked. */
export interface FakeNode extends EdgeNode {
  asked: GenerateRequest[]
  /** What vectors were asked for: each gets (0.6, 0.8) and (0.6, -0.8) in turns. */
  embedded: EmbedRequest[]
  /** How long models were to be kept loaded, in order. */
  kept: [model: string | undefined, ms: number][]
  /** What was to be loaded before it is asked, in order. */
  loaded: (LoadOptions & { model: string | undefined })[]
  /** Signals of the requests, in order. */
  signals: AbortSignal[]
  /** What the requests are called, in order. */
  requestIds: string[]
}

export const OPEN_PAIRING: Extract<PairingState, { open: true }> = {
  open: true,
  code: '012345',
  leftMs: 120_000,
  triesLeft: 3,
  addresses: ['/ip4/127.0.0.1/tcp/7448']
}

export type Generate = (request: GenerateRequest, signal: AbortSignal) => AsyncGenerator<GenerateEvent>

export function fakeNode(generate: Generate = () => replay(ANSWER), template = '{{ messages }}'): FakeNode {
  const asked: GenerateRequest[] = []
  const embedded: EmbedRequest[] = []
  const kept: FakeNode['kept'] = []
  const loaded: FakeNode['loaded'] = []
  const signals: AbortSignal[] = []
  const requestIds: string[] = []
  const answers = new Answers()
  const counters = {
    framesSent: 7,
    framesReceived: 7,
    hiddenBytesSent: 2048,
    hiddenBytesReceived: 64,
    weightBytesSent: 0,
    weightBytesReceived: 0
  }
  return {
    asked,
    embedded,
    kept,
    loaded,
    signals,
    requestIds,
    peerId: SELF.peerId,
    name: SELF.name,
    addresses: ['/ip4/127.0.0.1/tcp/4001'],
    models: async () => [
      {
        name: 'tiny',
        id: 'a'.repeat(64),
        architecture: 'llama',
        precision: 'float32',
        decoderLayers: 8,
        contextLength: 512,
        weightBytes: 1000,
        holders: [{ peerId: SELF.peerId, name: 'desk', layers: [[0, 10]] }]
      }
    ],
    mesh: (): MeshState => ({
      self: { ...SELF, addresses: [], counters },
      peers: [],
      unreached: [],
      copies: [],
      links: [],
      leases: [],
      fetches: [],
      deployments: [],
      sessions: 0,
      droppedFrames: 0
    }),
    invite: async () => 'ticket-1',
    pairing: {
      state: { open: false },
      open: async () => OPEN_PAIRING,
      close: async () => ({ open: false, end: 'closed' })
    },
    membership: {
      state: { mesh: 'desk.0', isIn: true, devices: [], banned: [] },
      banned: [],
      rotate: async () => ({ reached: [], missed: [] }),
      ban: async peerId => ({ out: [{ peerId, name: 'lost' }], kept: [] }),
      unban: async () => {},
      promote: async () => {}
    },
    generate: (request, { signal, requestId } = {}) => {
      const given = signal ?? new AbortController().signal
      asked.push(request)
      signals.push(given)
      if (requestId !== undefined) requestIds.push(requestId)
      return answers.told(generate(request, given))
    },
    embed: async (request, { signal, requestId } = {}) => {
      embedded.push(request)
      signals.push(signal ?? new AbortController().signal)
      if (requestId !== undefined) requestIds.push(requestId)
      const vectors = request.inputs.map((_, i) => Float32Array.of(0.6, i % 2 === 0 ? 0.8 : -0.8))
      return {
        vectors,
        promptTokens: 3 * vectors.length,
        pooling: 'mean',
        isPoolingKnown: false,
        devices: [{ peerId: SELF.peerId, name: SELF.name }]
      }
    },
    accept: () => answers.accept(),
    watchAnswers: begin => answers.watch(begin),
    scenario: () => Promise.reject(new Error('not used here')),
    manifest: async name => ({
      name: name ?? 'tiny',
      id: 'a'.repeat(64),
      manifest: randomManifest(TINY_SHAPE, undefined)
    }),
    countTokens: async ({ input }) => JSON.stringify(input).length,
    chatTemplate: async () => template,
    load: async (model, { signal, requestId, ...options } = {}) => {
      loaded.push({ model, ...options })
      signals.push(signal ?? new AbortController().signal)
      if (requestId !== undefined) requestIds.push(requestId)
    },
    keepAlive: async (model, ms) => void kept.push([model, ms]),
    tokenize: async text => [...text].map(character => character.codePointAt(0)!),
    readiness: async () => ({ ready: true, reasons: [] }),
    drain: async () => true,
    undrain: () => undefined,
    draining: { draining: false, answers: 0, sessions: 0, sources: [], onlyHere: [] },
    stop: async () => undefined,
    [Symbol.asyncDispose]: async () => undefined
  }
}

export async function* replay(events: GenerateEvent[]): AsyncGenerator<GenerateEvent> {
  yield* events
}

/** Text without end, one piece at a time, until the signal aborts. */
export async function* endless(signal: AbortSignal, text: string): AsyncGenerator<GenerateEvent> {
  yield { type: 'plan', plan: RESULT.plan, predicted: RESULT.predicted }
  for (let id = 0; ; id++) {
    await new Promise(resolve => setImmediate(resolve))
    signal.throwIfAborted()
    yield { type: 'text', text, tokens: [id], logprobs: [] }
  }
}

/** A node that loads until nobody waits for that any more. */
export function loadingNode(): FakeNode {
  const node = fakeNode()
  const { load } = node
  node.load = async (model, options = {}) => {
    await load(model, options)
    await new Promise((_, reject) => {
      options.signal!.addEventListener('abort', () => reject(options.signal!.reason))
    })
  }
  return node
}
