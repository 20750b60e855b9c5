import { expect, test } from 'vitest'
import type { z } from 'zod'
import { directoryMessage } from '../../protocols/directory/messages.ts'
import { JsonStream } from '../../protocols/json-stream.ts'
import { replyMessage, requestMessage } from '../../protocols/lease/messages.ts'
import { linkRequest } from '../../protocols/links/messages.ts'
import { helloEnd, helloReply, openingMessage, redeemReply } from '../../protocols/membership/messages.ts'
import { confirmReply, startMessage } from '../../protocols/pairing/messages.ts'
import { MAX_FRAME_TOKENS, MAX_HIDDEN_SIZE } from '../../protocols/stage/constants.ts'
import {
  decodeTokens,
  encodeFrameError,
  encodeFrameHeader,
  encodeTokens,
  type FrameHeader
} from '../../protocols/stage/frame.ts'
import { FrameReader } from '../../protocols/stage/frame-reader.ts'
import { weightsReply, weightsRequest } from '../../protocols/weights/messages.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { FeedStream } from './feed-stream.ts'
import { mutateBytes, mutateJson, Random } from './mutate.ts'

const FRAMES = 50_000
const MESSAGES = 50_000
/** Change it to walk elsewhere; a failure prints what was sent. */
const SEED = 20_261_120

const EXPECTED_ERRORS = ['InvalidMessageError', 'LimitExceededError', 'StreamEndedError']
const SHA = 'ab'.repeat(32)
const PEER = '12D3KooWDcYehMzndZcxD9qhj4ayzEX7zyJzsTRpQKcsXmTye2rg'

test('frames: whatever arrives is delivered, refused or ends its stream, within the caps', () => {
  const random = new Random(SEED)
  const counts = new Map<string, number>()
  let pastHeader = 0
  let largest = 0
  for (let i = 0; i < FRAMES; i++) {
    const bytes = random.next() < 0.2 ? frame(random) : mutateBytes(frame(random), random)
    const feed = new FeedStream()
    let delivered = 'nothing'
    new FrameReader(feed.stream, {
      allocate: ({ tokens, hiddenSize }) => {
        largest = Math.max(largest, tokens * hiddenSize)
        pastHeader++
        // A session expects its own hidden size, which keeps real allocations small.
        return hiddenSize > 64 ? null : new Float32Array(new SharedArrayBuffer(tokens * hiddenSize * 4))
      },
      onFrame: ({ type, rows }, payload) => {
        if (type !== 'hidden') pastHeader++
        delivered = type
        if (type === 'token') decodeTokens(payload, rows.length)
      },
      onBytes: () => {}
    })
    const cut = random.below(bytes.byteLength + 1)
    feed.feed(bytes.subarray(0, cut))
    feed.feed(bytes.subarray(cut))
    if (feed.error) mustBeExpected(feed.error, bytes)
    count(counts, feed.error?.name ?? delivered)
  }
  report('frames', counts, pastHeader)
  expect(pastHeader).toBeGreaterThan(FRAMES / 3)
  expect(largest).toBeLessThanOrEqual(MAX_FRAME_TOKENS * MAX_HIDDEN_SIZE)
})

test('messages: whatever arrives is a message of its schema or ends its stream', {
  timeout: deadlineMs(120_000)
}, async () => {
  const random = new Random(SEED)
  const counts = new Map<string, number>()
  let pastOuter = 0
  for (let i = 0; i < MESSAGES; i++) {
    const { schema, examples } = random.pick(PROTOCOLS)
    const value = random.next() < 0.2 ? random.pick(examples) : mutateJson(random.pick(examples), random)
    const body = Buffer.from(JSON.stringify(value) ?? 'null')
    const head = Buffer.alloc(4)
    head.writeUInt32BE(body.byteLength)
    const whole = Buffer.concat([head, body])
    const bytes = random.next() < 0.9 ? whole : mutateBytes(whole, random)
    const feed = new FeedStream()
    const messages = new JsonStream(feed.stream)
    const read = messages.read(schema).then(
      () => 'accepted',
      (error: Error) => {
        mustBeExpected(error, bytes)
        // The outer parse is length and JSON; what fails behind it was looked at field by field.
        if (/malformed/.test(error.message)) pastOuter++
        return error.name
      }
    )
    feed.feed(bytes)
    feed.dispatchEvent(new Event('end'))
    const outcome = await read
    if (outcome === 'accepted') pastOuter++
    count(counts, outcome)
  }
  report('messages', counts, pastOuter)
  expect(pastOuter).toBeGreaterThan(MESSAGES / 3)
  expect(counts.get('accepted')).toBeGreaterThan(MESSAGES / 10)
})

const record = {
  peerId: PEER,
  name: 'box',
  version: '0.1.0',
  sequence: 4,
  hardware: { platform: 'linux', arch: 'x64', cpu: 'any', cores: 4, totalMemoryBytes: 2 ** 33 },
  memory: { budgetBytes: 2 ** 32, freeBytes: 2 ** 31 },
  models: [{ name: 'm', id: SHA, layers: [[0, 3]] }],
  profiles: { [SHA]: { decoder: { decodeMs: 1, prefillMsPerToken: 0.2 } } },
  links: { [PEER]: { outMbps: 90, inMbps: 80, rttMs: 1, spread: 0.1, ageMs: 5 } }
}

const MESH = `${PEER}.${'ab'.repeat(16)}`
const SIGNATURE = 'A'.repeat(86)
const STATEMENTS = [
  { type: 'admit', device: PEER, by: PEER, counter: 0, signature: SIGNATURE },
  { type: 'owner', device: PEER, by: PEER, signature: SIGNATURE },
  { type: 'ban', device: PEER, by: PEER, counter: 1, signature: SIGNATURE }
]
const HELLO = { type: 'hello', mesh: MESH, epoch: 1, proof: STATEMENTS, digest: SHA }

const PROTOCOLS: { schema: z.ZodType; examples: unknown[] }[] = [
  {
    schema: directoryMessage,
    examples: [
      { type: 'record', record },
      { type: 'contacts', contacts: [{ peerId: PEER, name: 'box', addresses: ['/ip4/10.0.0.1/tcp/1'] }] },
      { type: 'ping', at: 5, echo: { at: 1, heldMs: 2 } },
      { type: 'beat', at: 7, echo: { at: 1, heldMs: 999 } },
      { type: 'pong', at: 9 }
    ]
  },
  {
    schema: requestMessage,
    examples: [
      { type: 'reserve', id: 1, body: { modelId: SHA, range: [1, 4], maxTokens: 512, sessions: 1 } },
      { type: 'load', id: 2, body: { leaseId: 'ab-1', holders: [PEER], previous: PEER, next: PEER } },
      {
        type: 'open',
        id: 3,
        body: {
          sessionId: 'cd'.repeat(16),
          leaseId: 'ab-1',
          slot: 3,
          keepTokens: 20,
          withholdTokens: 20,
          sampling: { temperature: 0.7, topP: 0.9, seed: 1, topLogprobs: 0 }
        }
      },
      { type: 'relink', id: 6, body: { leaseId: 'ab-1', previous: PEER, next: PEER } },
      { type: 'close', id: 4, body: { sessionId: 'cd'.repeat(16) } },
      { type: 'renew', id: 5, body: { leaseId: 'ab-1' } }
    ]
  },
  {
    schema: replyMessage,
    examples: [
      { type: 'ok', id: 1, body: { type: 'granted', leaseId: 'a', expiresInMs: 1 } },
      { type: 'progress', id: 2, body: { phase: 'weights', done: 1, total: 2 } },
      { type: 'failed', id: 3, code: 'memory', reason: 'no memory' }
    ]
  },
  {
    schema: openingMessage,
    examples: [
      HELLO,
      { type: 'redeem', mesh: MESH, code: 'ab'.repeat(16) },
      { type: 'rotate', epoch: 1, secret: SHA, by: PEER, signature: SIGNATURE }
    ]
  },
  { schema: helloReply, examples: [HELLO, { type: 'refused', code: 'banned', reason: 'out' }] },
  {
    schema: helloEnd,
    examples: [{ type: 'same' }, { type: 'statements', statements: STATEMENTS, more: false }]
  },
  {
    schema: startMessage,
    examples: [{ type: 'start', sid: 'ab'.repeat(16), device: PEER, share: SHA }]
  },
  {
    schema: confirmReply,
    examples: [
      { type: 'ticket', tag: 'cd'.repeat(64), nonce: '09'.repeat(12), ticket: 'AAAA' },
      { type: 'refused', code: 'wrong-code' }
    ]
  },
  {
    schema: redeemReply,
    examples: [
      { type: 'admitted', proof: STATEMENTS, epoch: 0, secret: SHA },
      { type: 'refused', code: 'ticket-expired', nowMs: 2, expiresAtMs: 1 }
    ]
  },
  { schema: weightsRequest, examples: [{ sha256: SHA, offset: 0, credit: 65_536 }] },
  {
    schema: weightsReply,
    examples: [
      { type: 'blob', bytes: 100 },
      { type: 'failed', code: 'absent', reason: 'none' }
    ]
  },
  { schema: linkRequest, examples: [{ type: 'echo' }, { type: 'take', bytes: 8192 }] }
]

function frame(random: Random): Buffer {
  const type = random.pick(['hidden', 'hidden', 'token', 'error'] as const)
  const count = 1 + random.below(3)
  const tokens = count > 1 ? count : 1 + random.below(4)
  const hiddenSize = type === 'hidden' ? 8 * (1 + random.below(8)) : 0
  const token = () => ({ id: random.below(1000), logprob: -random.next(), top: [{ id: 1, logprob: -2 }] })
  const payload =
    type === 'hidden'
      ? Buffer.alloc(tokens * hiddenSize * 4, random.below(256))
      : type === 'token'
        ? encodeTokens(Array.from({ length: count }, token))
        : encodeFrameError('stage', 'no memory')
  const header: FrameHeader = {
    type,
    rows: Array.from({ length: count }, (_, i) => ({
      sessionId: `a${i}`.repeat(16),
      position: random.below(4096)
    })),
    tokens,
    hiddenSize,
    sample: random.next() < 0.5,
    timings: Array.from({ length: random.below(3) }, () => ({
      arrivedAtMs: random.next() * 1e12,
      sentAtMs: random.next() * 1e12,
      computeMs: random.next()
    }))
  }
  return Buffer.concat([encodeFrameHeader(header, payload.byteLength), payload])
}

/** Cheap enough for every message; the text is only made for the one that fails. */
function mustBeExpected(error: Error, bytes: Uint8Array): void {
  if (EXPECTED_ERRORS.includes(error.name)) return
  throw new Error(`${error.stack}\nwas caused by ${Buffer.from(bytes).toString('hex').slice(0, 4000)}`)
}

function count(counts: Map<string, number>, what: string): void {
  counts.set(what, (counts.get(what) ?? 0) + 1)
}

function report(what: string, counts: Map<string, number>, past: number): void {
  const list = [...counts].map(([name, n]) => `${name} ${n}`).join(', ')
  process.stderr.write(`${what}: ${past} past the outer parse; ${list}\n`)
}
