import { readFile } from 'node:fs/promises'
import type { Stream } from '@libp2p/interface'
import { describe, expect, it } from 'vitest'
import type { z } from 'zod'
import { meshKeys } from '../../node/mesh/membership.ts'
import { PAIRING_PROLOGUE } from '../../node/mesh/pairing-host.ts'
import { isSignedBy } from '../../node/mesh/signing.ts'
import { StatementSet } from '../../node/mesh/statements.ts'
import { decodeTicket, encodeTicket } from '../../node/mesh/ticket.ts'
import { directoryMessage } from '../../protocols/directory/messages.ts'
import { JsonStream } from '../../protocols/json-stream.ts'
import { LEASE_CODES } from '../../protocols/lease/codes.ts'
import {
  openReply,
  parseRequest,
  renewReply,
  replyMessage,
  requestBodies,
  requestMessage,
  reserveReply,
  standReply
} from '../../protocols/lease/messages.ts'
import { echoReply, linkRequest, took } from '../../protocols/links/messages.ts'
import { MEMBERSHIP_CODES } from '../../protocols/membership/codes.ts'
import {
  helloEnd,
  helloReply,
  openingMessage,
  redeemReply,
  rotateReply
} from '../../protocols/membership/messages.ts'
import { type Statement, signedBytes } from '../../protocols/membership/statement.ts'
import { parseMessage } from '../../protocols/message.ts'
import { PAIRING_CODES } from '../../protocols/pairing/codes.ts'
import { PAIRING_PROTOCOL } from '../../protocols/pairing/constants.ts'
import { type Channel, JoinerSide, memberSide } from '../../protocols/pairing/handshake.ts'
import { confirmMessage, confirmReply, startMessage, startReply } from '../../protocols/pairing/messages.ts'
import { Outbound } from '../../protocols/stage/client.ts'
import { STAGE_CODES } from '../../protocols/stage/codes.ts'
import type { FrameRow } from '../../protocols/stage/frame.ts'
import { FrameReader } from '../../protocols/stage/frame-reader.ts'
import { decodeFrame, type StageFrame } from '../../protocols/stage/messages.ts'
import type { StreamHandler, Transport } from '../../protocols/transport.ts'
import { PROTOCOLS, type ProtocolName } from '../../protocols/versions.ts'
import { WEIGHTS_CODES } from '../../protocols/weights/codes.ts'
import { weightsReply, weightsRequest } from '../../protocols/weights/messages.ts'
import { serveWeights } from '../../protocols/weights/server.ts'
import { FeedStream } from './feed-stream.ts'

type Bytes = string | [hex: string, times: number][]

interface MessageVector {
  name: string
  reader: string
  bytes: string
  /** Absent where it is refused with `error`. */
  message?: object
  error?: string
  /** Our writer sends the same message in other bytes. */
  readOnly?: true
}

interface FrameVector {
  name: string
  bytes: Bytes
  /** Sizes of the pieces in which they arrive; the last one again and again. */
  pieces?: number[]
  /** Sizes of the writes in which they leave. */
  writes?: number[]
  frame: Omit<StageFrame, 'type' | 'hidden' | 'pooled' | 'rows'> & {
    pooled?: number[]
    type: string
    rows: (Omit<FrameRow, 'mask'> & { mask?: string })[]
    hidden?: number[] | { repeat: number; count: number }
  }
  readOnly?: true
}

interface PairingRun {
  code: string
  channel: Channel
  scalars: { joiner: string; member: string }
  prologue: string
  ticket: string
  start: { sid: string; device: string; share: string }
  share: { share: string }
  confirm: { tag: string }
  end: { tag: string; nonce: string; ticket: string }
}

async function vectors<T>(name: string): Promise<T> {
  return JSON.parse(await readFile(new URL(`./vectors/${name}.json`, import.meta.url), 'utf8')) as T
}

function bytesOf(bytes: Bytes): Buffer {
  if (typeof bytes === 'string') return Buffer.from(bytes, 'hex')
  return Buffer.concat(bytes.flatMap(([hex, times]) => Array<Buffer>(times).fill(Buffer.from(hex, 'hex'))))
}

/** A stream that takes everything at once and remembers the writes. */
class WholeStream extends FeedStream {
  writeStatus = 'writable'
  writableNeedsDrain = false
  status = 'open'
  readonly writes: Buffer[] = []

  send(bytes: { slice(): Uint8Array }): boolean {
    this.writes.push(Buffer.from(bytes.slice()))
    return true
  }

  async close(): Promise<void> {
    this.status = 'closed'
  }

  get sent(): Buffer {
    return Buffer.concat(this.writes)
  }
}

type Read = (messages: JsonStream) => Promise<unknown>
const through =
  (schema: z.ZodType): Read =>
  messages =>
    messages.read(schema)
const ofReply =
  (schema: z.ZodType): Read =>
  async messages => {
    const reply = await messages.read(replyMessage)
    return reply.type === 'ok' ? { ...reply, body: parseMessage(schema, reply.body) } : reply
  }

/** Every reader that a vector may name. */
const READERS: Record<Exclude<ProtocolName, 'stage'> | 'pairing', Record<string, Read>> = {
  directory: { message: through(directoryMessage) },
  lease: {
    request: async messages => parseRequest(await messages.read(requestMessage)),
    reply: through(replyMessage),
    'reply:reserve': ofReply(reserveReply),
    'reply:stand': ofReply(standReply),
    'reply:open': ofReply(openReply),
    'reply:renew': ofReply(renewReply)
  },
  links: { request: through(linkRequest), reply: through(echoReply), took: through(took) },
  membership: {
    opening: through(openingMessage),
    greeted: through(helloReply),
    end: through(helloEnd),
    redeemed: through(redeemReply),
    told: through(rotateReply)
  },
  pairing: {
    start: through(startMessage),
    started: through(startReply),
    confirm: through(confirmMessage),
    ended: through(confirmReply)
  },
  weights: { request: through(weightsRequest), reply: through(weightsReply) }
}

/** Pairing has a listener of its own, and is no protocol that peers have in common or not. */
const IDS = { ...PROTOCOLS, pairing: [PAIRING_PROTOCOL] }

describe.each(Object.keys(READERS) as (keyof typeof READERS)[])('vectors of the %s protocol', async name => {
  const { protocol, messages } = await vectors<{ protocol: string; messages: MessageVector[] }>(name)

  it('are of the version that is spoken', () => {
    expect(IDS[name]).toContain(protocol)
  })

  it.each(messages)('$reader: $name', async ({ reader, bytes, message, error, readOnly }) => {
    const feed = new WholeStream()
    const stream = new JsonStream(feed.stream)
    const reading = READERS[name][reader]!(stream).then(
      read => ({ message: read }),
      (reason: Error) => ({ error: reason.name })
    )
    feed.feed(Buffer.from(bytes, 'hex'))
    feed.dispatchEvent(new Event('end'))
    expect(await reading).toEqual(error === undefined ? { message } : { error })
    if (error !== undefined || readOnly) return
    await stream.send(message!)
    expect(feed.sent.toString('hex')).toBe(bytes)
  })
})

describe('vectors of the stage protocol', async () => {
  const { protocol, frames, refused } = await vectors<{
    protocol: string
    frames: FrameVector[]
    refused: { name: string; bytes: Bytes; error: string }[]
  }>('stage')

  function read(bytes: Buffer, pieces: number[] = [bytes.byteLength]) {
    const feed = new FeedStream()
    const got: StageFrame[] = []
    new FrameReader(feed.stream, {
      allocate: ({ tokens, hiddenSize }) => new Float32Array(new SharedArrayBuffer(tokens * hiddenSize * 4)),
      onFrame: (...parts) => void got.push(decodeFrame(...parts)),
      onBytes: () => {}
    })
    for (let at = 0, i = 0; at < bytes.byteLength; i++) {
      const size = pieces[Math.min(i, pieces.length - 1)]!
      feed.feed(bytes.subarray(at, at + size))
      at += size
    }
    return { got, error: feed.error }
  }

  const frameOf = ({ hidden, pooled, rows, ...others }: FrameVector['frame']): StageFrame => {
    const masked = rows.map(({ mask, ...row }) =>
      mask === undefined ? row : { ...row, mask: Uint8Array.from(Buffer.from(mask, 'hex')) }
    )
    const rest = { ...others, rows: masked }
    if (pooled !== undefined) return { ...rest, pooled: Float32Array.from(pooled) } as StageFrame
    if (hidden === undefined) return rest as StageFrame
    const values = Array.isArray(hidden) ? hidden : Array<number>(hidden.count).fill(hidden.repeat)
    const memory = new Float32Array(new SharedArrayBuffer(4 * values.length))
    memory.set(values)
    return { ...rest, hidden: memory } as StageFrame
  }

  it('are of the version that is spoken', () => {
    expect(PROTOCOLS.stage).toContain(protocol)
  })

  it.each(frames)('$name', async ({ bytes, pieces, writes, frame, readOnly }) => {
    const whole = bytesOf(bytes)
    const { got, error } = read(whole, pieces)
    expect(error).toBeUndefined()
    expect(got).toEqual([frameOf(frame)])
    if (readOnly) return
    const stream = new WholeStream()
    const transport = {
      protocols: PROTOCOLS,
      newStream: async () => stream as unknown as Stream
    } as Partial<Transport> as Transport
    const counters = { framesSent: 0, framesReceived: 0, hiddenBytesSent: 0, hiddenBytesReceived: 0 }
    await new Outbound(transport, 'b', () => {}).send(frameOf(frame), undefined, counters)
    expect(stream.sent.equals(whole)).toBe(true)
    expect(stream.writes.map(({ byteLength }) => byteLength)).toEqual(writes ?? [whole.byteLength])
  })

  it.each(refused)('refused: $name', ({ bytes, error }) => {
    const result = read(bytesOf(bytes))
    expect(result.error?.name).toBe(error)
    expect(result.got).toEqual([])
  })
})

it('a blob is sent under the credit that is given for it', async () => {
  const { fetched } = await vectors<{
    fetched: { blob: Bytes; steps: { received: string; sent: Bytes }[] }
  }>('weights')
  const blob = bytesOf(fetched.blob)
  let accept: StreamHandler = () => {}
  const transport = {
    protocols: PROTOCOLS,
    touch() {},
    handle: async (_: readonly string[], handler: StreamHandler) => {
      accept = handler
      return async () => {}
    }
  } as Partial<Transport> as Transport
  const open = async () => ({
    bytes: blob.byteLength,
    async *stream(offset: number) {
      yield blob.subarray(offset)
    }
  })
  const counters = { weightBytesSent: 0 }
  await serveWeights(transport, { open }, counters)
  const stream = new WholeStream()
  accept(stream as unknown as Stream, 'b')
  let before = 0
  for (const { received, sent } of fetched.steps) {
    stream.feed(Buffer.from(received, 'hex'))
    const expected = bytesOf(sent)
    await expect.poll(() => stream.sent.byteLength - before).toBe(expected.byteLength)
    // Nothing more comes before the next credit.
    await new Promise(resolve => setImmediate(resolve))
    expect(stream.sent.subarray(before).equals(expected)).toBe(true)
    before = stream.sent.byteLength
  }
  await expect.poll(() => stream.status).toBe('closed')
})

it('the keys of a mesh come from its secret', async () => {
  const { secret, prologue, nameKey, ...tags } = await vectors<Record<string, string>>('keys')
  const keys = meshKeys(new Uint8Array(Buffer.from(secret!, 'hex')))
  const hex = (key: Uint8Array) => Buffer.from(key).toString('hex')
  expect({ ...keys, prologue: hex(keys.prologue), nameKey: hex(keys.nameKey) }).toEqual({
    prologue,
    nameKey,
    ...tags
  })
})

it('a statement is signed over its lines, and a set of them means who is in', async () => {
  const { mesh, statements, forged, digest, ...rest } = await vectors<{
    mesh: string
    statements: Statement[]
    forged: Statement[]
    digest: string
    in: string[]
  }>('statements')
  const isSigned = (statement: Statement) =>
    isSignedBy(statement.by, signedBytes(mesh, statement), statement.signature)
  expect(statements.map(isSigned)).toEqual(statements.map(() => true))
  expect(forged.map(isSigned)).toEqual(forged.map(() => false))
  const set = new StatementSet(mesh, isSigned)
  for (const each of [...forged, ...statements]) set.merge([each])
  expect(set.digest).toBe(digest)
  expect(set.devices).toEqual(rest.in)
})

it('a ticket carries secret, mesh, code, addresses and expiry', async () => {
  const { text, secret, code, ...rest } = await vectors<{
    text: string
    secret: string
    mesh: string
    inviter: string
    code: string
    addresses: string[]
    expiresAtMs: number
  }>('ticket')
  const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'))
  const ticket = { ...rest, secret: bytes(secret), code: bytes(code) }
  expect(encodeTicket(ticket)).toBe(text)
  expect(decodeTicket(text)).toEqual(ticket)
})

it('a run of pairing has the same shares, tags and key on both sides', async () => {
  const { run } = await vectors<{ run: PairingRun }>('pairing')
  const { code, channel, scalars, start, share, confirm, end, ticket } = run
  const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'))
  const drawn = { scalar: bytes(scalars.joiner), sid: bytes(start.sid) }
  const joiner = new JoinerSide(code, channel, start.device, drawn)
  expect({ type: 'start', ...joiner.start }).toEqual(start)
  const member = memberSide(code, channel, joiner.start, bytes(scalars.member))
  expect(member.share).toBe(share.share)
  const proof = joiner.answered(share.share)
  expect([proof.tag, member.proof.tag]).toEqual([confirm.tag, end.tag])
  expect([member.proof.isShownBy(confirm.tag), proof.isShownBy(end.tag)]).toEqual([true, true])
  expect(proof.open(end)).toBe(ticket)
  expect(Buffer.from(PAIRING_PROLOGUE).toString('hex')).toBe(run.prologue)
})

it('the specification names every id and every word of a refusal', async () => {
  const page = await readFile(new URL('../../protocols/README.md', import.meta.url), 'utf8')
  const words = [
    ...Object.values(IDS).flat(),
    ...Object.keys(LEASE_CODES),
    ...STAGE_CODES,
    ...WEIGHTS_CODES,
    ...MEMBERSHIP_CODES,
    ...PAIRING_CODES
  ]
  expect(words.filter(word => !page.includes(`\`${word}\``))).toEqual([])
  const types = Object.keys(requestBodies)
  expect(types.filter(type => !page.includes(`| \`${type}\` |`))).toEqual([])
})
