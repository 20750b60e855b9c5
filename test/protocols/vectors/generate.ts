// Writes the test vectors beside this file: `node test/protocols/vectors/generate.ts`. It encodes by the words of
// protocols/README.md and imports no encoder of ours, so that vectors.test.ts compares two readings of that page. `npm run format` afterwards.
import {
  createCipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  hkdfSync,
  sign as sign_
} from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { publicKeyFromRaw } from '@libp2p/crypto/keys'
import { peerIdFromPublicKey } from '@libp2p/peer-id'
import { ristretto255_hasher } from '@noble/curves/ed25519.js'
import { PROTOCOLS } from '../../../protocols/versions.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'

/** Bytes in hex, or such pieces with how often each is repeated. */
type Bytes = string | [hex: string, times: number][]

const [A, B] = [peerIdOf('a'), peerIdOf('b')]
const SHA = createHash('sha256').update('a blob').digest('hex')
const SESSION = '000102030405060708090a0b0c0d0e0f'
const later = { colour: 'blue', depth: { metres: [1, 2] } }

/** A length of four bytes, big endian, then JSON in UTF-8. */
function framed(message: unknown): string {
  const body = Buffer.from(typeof message === 'string' ? message : JSON.stringify(message), 'utf8')
  const head = Buffer.alloc(4)
  head.writeUInt32BE(body.byteLength)
  return Buffer.concat([head, body]).toString('hex')
}

/** Read and written alike. */
const both = (name: string, reader: string, message: object) => ({
  name,
  reader,
  bytes: framed(message),
  message
})
/** Read as `message`, which our writer would send otherwise. */
const read = (name: string, reader: string, sent: object, message: object) => ({
  name,
  reader,
  bytes: framed(sent),
  message,
  readOnly: true
})
const refused = (name: string, reader: string, sent: unknown, error: string) => ({
  name,
  reader,
  bytes: framed(sent),
  error
})
/** What every reader of JSON refuses, whatever the message. */
const malformed = (reader: string) => [
  { name: 'a length above the cap', reader, bytes: '00010001', error: 'LimitExceededError' },
  { name: 'no JSON', reader, bytes: framed('{"type":'), error: 'InvalidMessageError' },
  { name: 'no UTF-8', reader, bytes: '0000000222ff', error: 'InvalidMessageError' },
  { name: 'half a message', reader, bytes: '000000057b7d', error: 'StreamEndedError' },
  { name: 'an empty message', reader, bytes: '00000000', error: 'InvalidMessageError' }
]

const record = {
  peerId: A,
  name: 'desk',
  version: '0.1.0',
  sequence: 4,
  hardware: { platform: 'linux', arch: 'x64', cpu: 'any', cores: 8, totalMemoryBytes: 17179869184 },
  memory: { budgetBytes: 8589934592, freeBytes: 4294967296 },
  models: [{ name: 'tiny', id: SHA, layers: [[0, 3]] }],
  leases: [{ modelId: SHA, layers: [1, 3], source: B }],
  profiles: {
    [SHA]: {
      decoder: {
        decodeMs: 1.5,
        decodeMsByBatch: { 8: 2 },
        decodeMsByContext: { 32: 1.5, 1024: 1.75 },
        prefillMsPerToken: 0.25,
        prefillMsByTokens: { 8: 4, 32: 8 },
        loadMs: 12,
        prefillMsPerTokenByContext: { 16: 0.25, 1040: 0.5 }
      }
    }
  },
  stageTimes: { turnMs: 0.3, sharedTurnMs: 0.125, startMs: 40 },
  links: {
    [B]: {
      outMbps: 940,
      inMbps: 930.5,
      rttMs: 0.4,
      spread: 0.02,
      ageMs: 1000,
      inAgeMs: 20,
      observed: true,
      starved: true
    }
  }
}
const { leases: _leases, links: _links, ...lean } = record

const signedRecord = {
  device: A,
  serial: 7,
  text: JSON.stringify({ record: lean, addresses: [], neighbours: [B], epoch: 0 }),
  signature: 'A'.repeat(86)
}

const directory = [
  both('a record', 'message', { type: 'record', record }),
  read(
    'a record of a later version',
    'message',
    { type: 'record', record: { ...record, ...later }, ...later },
    {
      type: 'record',
      record
    }
  ),
  read(
    'a record without lists that may be absent',
    'message',
    { type: 'record', record: lean },
    {
      type: 'record',
      record: { ...lean, leases: [], links: {} }
    }
  ),
  read(
    'a name with what a terminal would obey',
    'message',
    {
      type: 'record',
      record: { ...record, name: 'de\u001bsk\n' }
    },
    { type: 'record', record: { ...record, name: 'de sk ' } }
  ),
  both('a record that says which start of the program it is from', 'message', {
    type: 'record',
    record: { ...record, start: '0123456789abcdef' }
  }),
  refused(
    'a start that is no 16 hex digits',
    'message',
    { type: 'record', record: { ...record, start: 'now' } },
    'InvalidMessageError'
  ),
  both('a record of a device that is being drained', 'message', {
    type: 'record',
    record: { ...record, draining: true }
  }),
  both('a record of a device that may compute on a GPU', 'message', {
    type: 'record',
    record: {
      ...record,
      processors: [
        { kind: 'cpu', name: 'a processor', used: false },
        { kind: 'gpu', name: 'Vulkan: driver.json', used: true, keepsBits: true }
      ]
    }
  }),
  both('a record of a device whose CPU computes beside its GPU, which refuses a model', 'message', {
    type: 'record',
    record: {
      ...record,
      processors: [
        {
          kind: 'cpu',
          name: 'a processor',
          used: false,
          memory: { budgetBytes: 2_000_000, freeBytes: 1_000_000 },
          profiles: { [SHA]: { decoder: { decodeMs: 2.5, prefillMsPerToken: 0.5 } } }
        },
        { kind: 'gpu', name: 'Vulkan: driver.json', used: true, refuses: [SHA] }
      ]
    }
  }),
  refused(
    'a record that names nine processors',
    'message',
    {
      type: 'record',
      record: { ...record, processors: Array(9).fill({ kind: 'gpu', name: 'card', used: true }) }
    },
    'InvalidMessageError'
  ),
  both('contacts', 'message', {
    type: 'contacts',
    contacts: [{ peerId: B, name: 'box', addresses: ['/ip4/10.0.0.2/tcp/7446'] }]
  }),
  both('which signed records it has', 'message', { type: 'have', records: [[B, 1_764_000_000_000]] }),
  both('whose signed records it wants', 'message', { type: 'want', devices: [A, B] }),
  both('signed records', 'message', { type: 'signed', records: [signedRecord] }),
  refused(
    'a signed record whose signature is no 64 bytes',
    'message',
    { type: 'signed', records: [{ ...signedRecord, signature: 'none' }] },
    'InvalidMessageError'
  ),
  both('that it would not keep the connection', 'message', { type: 'keep', keep: false }),
  both('a beat', 'message', { type: 'beat', at: 12.25, echo: { at: 7.5, heldMs: 3 } }),
  both('a ping', 'message', { type: 'ping', at: 12 }),
  both('a pong', 'message', { type: 'pong', at: 13, echo: { at: 12, heldMs: 0.01 } }),
  both('a refusal', 'message', { type: 'refused', reason: 'it is too new' }),
  refused('an unknown type', 'message', { type: 'wave' }, 'InvalidMessageError'),
  refused(
    'an echo held for too long',
    'message',
    { type: 'beat', at: 1, echo: { at: 1, heldMs: 10_001 } },
    'InvalidMessageError'
  ),
  refused(
    'a contact that is no peer id',
    'message',
    {
      type: 'contacts',
      contacts: [{ peerId: 'x', name: 'x', addresses: [] }]
    },
    'InvalidMessageError'
  ),
  refused(
    'a critical field that is unknown',
    'message',
    { type: 'ping', at: 1, colour: 1, critical: ['colour'] },
    'NotUnderstoodError'
  ),
  ...malformed('message')
]

const reserve = { modelId: SHA, range: [1, 4], maxTokens: 512, sessions: 2 }
const sampling = { temperature: 0.7, topP: 0.95, seed: 7, topLogprobs: 2 }
const filters = {
  topK: 20,
  minP: 0.05,
  penalties: { repetition: 1.1, frequency: 0.5, presence: -0.5, window: 64 },
  logitBias: [[5, -100]],
  minTokens: 3,
  ends: [2]
}
const reply = { promptTokens: 16, knownTokens: 3, lastIds: [9, 7] }
const slot = { sessionId: SESSION, leaseId: 'ab-1', slot: 1, keepTokens: 16, withholdTokens: 0 }
const lease = [
  both('reserve', 'request', {
    type: 'reserve',
    id: 1,
    body: { ...reserve, waitMs: 3000, requestId: 'r-1_A' }
  }),
  both('reserve without what may be absent', 'request', { type: 'reserve', id: 1, body: reserve }),
  both('reserve for an answer that has begun', 'request', {
    type: 'reserve',
    id: 1,
    body: { ...reserve, begun: true }
  }),
  read(
    'reserve of disk alone',
    'request',
    { type: 'reserve', id: 1, body: { ...reserve, prefetch: true, critical: ['prefetch'] } },
    { type: 'reserve', id: 1, body: { ...reserve, prefetch: true } }
  ),
  read(
    'reserve that stands beside the line',
    'request',
    { type: 'reserve', id: 1, body: { ...reserve, waitMs: 3000, stand: true, critical: ['stand'] } },
    { type: 'reserve', id: 1, body: { ...reserve, waitMs: 3000, stand: true } }
  ),
  read(
    'reserve of the memory of a processor',
    'request',
    { type: 'reserve', id: 1, body: { ...reserve, processor: 'cpu', critical: ['processor'] } },
    { type: 'reserve', id: 1, body: { ...reserve, processor: 'cpu' } }
  ),
  both('reserve of large frames', 'request', {
    type: 'reserve',
    id: 1,
    body: { ...reserve, frameTokens: 512 }
  }),
  read(
    'reserve of a later version',
    'request',
    { type: 'reserve', id: 1, body: { ...reserve, ...later }, ...later },
    {
      type: 'reserve',
      id: 1,
      body: reserve
    }
  ),
  both('load', 'request', {
    type: 'load',
    id: 2,
    body: { leaseId: 'ab-1', holders: [B], previous: A, next: B }
  }),
  both('load for several sequences in a run', 'request', {
    type: 'load',
    id: 2,
    body: { leaseId: 'ab-1', holders: [B], previous: A, next: B, lanes: 4 }
  }),
  both('relink', 'request', { type: 'relink', id: 3, body: { leaseId: 'ab-1', previous: A, next: B } }),
  both('open', 'request', { type: 'open', id: 4, body: slot }),
  read(
    'open behind what another slot has',
    'request',
    { type: 'open', id: 4, body: { ...slot, copyFrom: 0, critical: ['copyFrom'] } },
    { type: 'open', id: 4, body: { ...slot, copyFrom: 0 } }
  ),
  read(
    'open from what was stored, with what has the slot stored before',
    'request',
    {
      type: 'open',
      id: 4,
      body: { ...slot, restore: 3, store: { key: 63, tokens: 8000 }, critical: ['restore'] }
    },
    { type: 'open', id: 4, body: { ...slot, restore: 3, store: { key: 63, tokens: 8000 } } }
  ),
  refused(
    'a number under which nothing is stored',
    'request',
    { type: 'open', id: 4, body: { ...slot, store: { key: 64, tokens: 1 } } },
    'InvalidMessageError'
  ),
  both('open beside the session whose place it takes', 'request', {
    type: 'open',
    id: 4,
    body: { ...slot, catchUpTokens: 40 }
  }),
  both('open where tokens are drawn', 'request', {
    type: 'open',
    id: 4,
    body: { ...slot, sampling, requestId: 'r' }
  }),
  both('open of a session with all that may be said about drawing', 'request', {
    type: 'open',
    id: 4,
    body: { ...slot, sampling: { ...sampling, ...filters, reply } }
  }),
  refused(
    'a reply of which more tokens are sent than are known',
    'request',
    {
      type: 'open',
      id: 4,
      body: { ...slot, sampling: { ...sampling, reply: { ...reply, knownTokens: 1 } } }
    },
    'InvalidMessageError'
  ),
  refused(
    'a window of penalties that is too long',
    'request',
    {
      type: 'open',
      id: 4,
      body: { ...slot, sampling: { ...sampling, penalties: { ...filters.penalties, window: 4097 } } }
    },
    'InvalidMessageError'
  ),
  refused(
    'a bias that is too large',
    'request',
    { type: 'open', id: 4, body: { ...slot, sampling: { ...sampling, logitBias: [[5, 101]] } } },
    'InvalidMessageError'
  ),
  read(
    'open of a session that pools',
    'request',
    { type: 'open', id: 4, body: { ...slot, pooling: 'mean', critical: ['pooling'] } },
    { type: 'open', id: 4, body: { ...slot, pooling: 'mean' } }
  ),
  both('open of a session whose source is told states', 'request', {
    type: 'open',
    id: 4,
    body: { ...slot, sampling, states: true }
  }),
  both('open of an exact session', 'request', { type: 'open', id: 4, body: { ...slot, exact: true } }),
  both('close', 'request', { type: 'close', id: 5, body: { sessionId: SESSION } }),
  both('renew', 'request', { type: 'renew', id: 6, body: { leaseId: 'ab-1' } }),
  both('release', 'request', { type: 'release', id: 7, body: { leaseId: 'ab-1' } }),
  read(
    'critical fields that are known',
    'request',
    { type: 'reserve', id: 1, body: { ...reserve, critical: ['range', 'sessions'] } },
    { type: 'reserve', id: 1, body: reserve }
  ),
  refused(
    'a critical field that is unknown',
    'request',
    {
      type: 'reserve',
      id: 1,
      body: { ...reserve, colour: 1, critical: ['range', 'colour'] }
    },
    'NotUnderstoodError'
  ),
  refused(
    'critical that is no list',
    'request',
    { type: 'renew', id: 1, body: { leaseId: 'ab-1', critical: 'leaseId' } },
    'InvalidMessageError'
  ),
  refused(
    'an empty range',
    'request',
    { type: 'reserve', id: 1, body: { ...reserve, range: [2, 2] } },
    'InvalidMessageError'
  ),
  refused(
    'too many sessions',
    'request',
    { type: 'reserve', id: 1, body: { ...reserve, sessions: 257 } },
    'InvalidMessageError'
  ),
  refused(
    'frames of no tokens',
    'request',
    { type: 'reserve', id: 1, body: { ...reserve, frameTokens: 0 } },
    'InvalidMessageError'
  ),
  refused(
    'frames of more tokens than any has',
    'request',
    { type: 'reserve', id: 1, body: { ...reserve, frameTokens: 513 } },
    'InvalidMessageError'
  ),
  refused(
    'a request id with other characters',
    'request',
    { type: 'reserve', id: 1, body: { ...reserve, requestId: 'a b' } },
    'InvalidMessageError'
  ),
  refused('an unknown type', 'request', { type: 'wave', id: 1, body: {} }, 'InvalidMessageError'),
  both('granted', 'reply:reserve', {
    type: 'ok',
    id: 1,
    body: { type: 'granted', leaseId: 'ab-1', expiresInMs: 30_000 }
  }),
  both('refused', 'reply:reserve', {
    type: 'ok',
    id: 1,
    body: { type: 'refused', code: 'memory', reason: 'too little' }
  }),
  both('nobody is before it', 'reply:stand', { type: 'ok', id: 1, body: { type: 'first' } }),
  both('stands there no more', 'reply:stand', {
    type: 'ok',
    id: 1,
    body: { type: 'refused', code: 'memory', reason: 'others were first' }
  }),
  read(
    'a word of a later version',
    'reply:reserve',
    { type: 'ok', id: 1, body: { type: 'refused', code: 'moon', reason: 'far' } },
    {
      type: 'ok',
      id: 1,
      body: { type: 'refused', code: 'internal', reason: 'far' }
    }
  ),
  both('a session that is computed to the bit', 'reply:open', { type: 'ok', id: 4, body: { exact: true } }),
  both('a session before which was stored what had its slot', 'reply:open', {
    type: 'ok',
    id: 4,
    body: { stored: true }
  }),
  both('a session that is open', 'reply:open', { type: 'ok', id: 4, body: {} }),
  both('progress', 'reply', { type: 'progress', id: 2, body: { phase: 'weights', done: 5, total: 9 } }),
  both('done', 'reply', { type: 'ok', id: 2, body: null }),
  both('renewed', 'reply:renew', { type: 'ok', id: 6, body: { expiresInMs: 30_000, wanted: true } }),
  both('failed', 'reply', { type: 'failed', id: 4, code: 'expired', reason: 'the lease has expired' }),
  refused(
    'a reason beyond its cap',
    'reply',
    { type: 'failed', id: 4, code: 'expired', reason: 'x'.repeat(501) },
    'InvalidMessageError'
  ),
  ...malformed('request')
]

const links = [
  both('an echo', 'request', { type: 'echo' }),
  both('a glance', 'request', { type: 'echo', glance: true }),
  both('a burst to take', 'request', { type: 'take', bytes: 12_288 }),
  both('a burst to give', 'request', { type: 'give', bytes: 4_194_304 }),
  read(
    'a request of a later version',
    'request',
    { type: 'give', bytes: 4096, ...later },
    { type: 'give', bytes: 4096 }
  ),
  refused('a burst below the least', 'request', { type: 'take', bytes: 4095 }, 'InvalidMessageError'),
  refused('a burst above the largest', 'request', { type: 'give', bytes: 4_194_305 }, 'InvalidMessageError'),
  refused(
    'a critical field that is unknown',
    'request',
    { type: 'echo', critical: ['colour'] },
    'NotUnderstoodError'
  ),
  both('an echo back', 'reply', { type: 'echo' }),
  both('an echo of a starved device', 'reply', { type: 'echo', starved: true }),
  both('busy', 'reply', { type: 'busy' }),
  both('refused', 'reply', { type: 'refused', reason: 'it is too new' }),
  both('how long a burst took', 'took', { type: 'took', bytes: 12_000, ms: 98.25 }),
  refused(
    'a burst that never ended',
    'took',
    { type: 'took', bytes: 12_000, ms: 600_001 },
    'InvalidMessageError'
  ),
  ...malformed('request')
]

/** An Ed25519 key from a seed, its peer id, and what it signs in base64url. */
function keyOf(name: string) {
  const d = createHash('sha256').update(name).digest()
  // PKCS #8 for Ed25519 (RFC 8410): these bytes, then the seed.
  const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), d])
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  const raw = createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32)
  const peerId = peerIdFromPublicKey(publicKeyFromRaw(raw)).toString()
  const sign = (...lines: (string | number)[]) =>
    sign_(null, Buffer.from(lines.join('\n'), 'utf8'), key).toString('base64url')
  return { peerId, raw, sign }
}

const founder = keyOf('founder')
const [desk, laptop] = [keyOf('desk'), keyOf('laptop')]
const NONCE = '0f0e0d0c0b0a09080706050403020100'
const mesh = `${founder.peerId}.${NONCE}`
type Key = ReturnType<typeof keyOf>
const statement = (type: string, device: Key, by: Key, counter?: number) => ({
  type,
  device: device.peerId,
  by: by.peerId,
  ...(counter !== undefined && { counter }),
  signature: by.sign('edgeshard statement 1', mesh, type, device.peerId, counter ?? 0, by.peerId)
})
const said = {
  owner: statement('owner', desk, founder),
  admit: statement('admit', laptop, desk, 0),
  ban: statement('ban', laptop, founder, 1),
  unban: statement('unban', laptop, desk, 2)
}
const lines = Object.values(said).map(
  ({ type, device, by, counter = 0 }) => `${type} ${device} ${counter} ${by}`
)
const statements = {
  mesh,
  statements: Object.values(said),
  /** Signed by nobody that the statement names. */
  forged: [
    { ...said.admit, device: A },
    { ...said.ban, by: desk.peerId },
    { ...said.unban, counter: 3 },
    { ...said.owner, signature: said.admit.signature }
  ],
  digest: createHash('sha256').update(lines.sort().join('\n')).digest('hex'),
  in: [founder.peerId, desk.peerId, laptop.peerId]
}
const newSecret = {
  epoch: 2,
  secret: SHA,
  by: desk.peerId,
  signature: desk.sign('edgeshard rotation 1', mesh, 2, SHA, desk.peerId)
}
const hello = { type: 'hello', mesh, epoch: 0, proof: [said.owner, said.admit], digest: SHA }
const admitted = { type: 'admitted', proof: [said.owner, said.admit], epoch: 0, secret: SHA }
const expired = { type: 'refused', code: 'ticket-expired', reason: 'late', nowMs: 2e12, expiresAtMs: 1e12 }
const page = { type: 'statements', statements: Object.values(said), more: false }

const membership = [
  both('a greeting', 'opening', hello),
  read(
    'a greeting of a later version',
    'opening',
    { ...hello, proof: [{ ...said.owner, ...later }], ...later },
    { ...hello, proof: [said.owner] }
  ),
  both('a ticket', 'opening', { type: 'redeem', mesh, code: NONCE }),
  both('a secret', 'opening', { type: 'rotate', ...newSecret }),
  refused('a mesh without a founder', 'opening', { ...hello, mesh: `x.${NONCE}` }, 'InvalidMessageError'),
  refused(
    'a proof that does not end',
    'opening',
    { ...hello, proof: Array(65).fill(said.owner) },
    'InvalidMessageError'
  ),
  refused(
    'a statement about what is no peer id',
    'opening',
    { ...hello, proof: [{ ...said.admit, device: 'x' }] },
    'InvalidMessageError'
  ),
  refused(
    'a ban without a counter',
    'opening',
    { ...hello, proof: [statement('ban', laptop, founder)] },
    'InvalidMessageError'
  ),
  refused(
    'a secret that is too short',
    'opening',
    { type: 'rotate', ...newSecret, secret: SHA.slice(2) },
    'InvalidMessageError'
  ),
  refused(
    'a critical field that is unknown',
    'opening',
    { ...hello, critical: ['colour'] },
    'NotUnderstoodError'
  ),
  both('a greeting in return', 'greeted', hello),
  both('a refusal', 'greeted', { type: 'refused', code: 'not-admitted', reason: 'nobody admitted it' }),
  read(
    'a refusal of a later version',
    'greeted',
    { type: 'refused', code: 'too-loud' },
    { type: 'refused', code: 'internal' }
  ),
  both('the same', 'end', { type: 'same' }),
  both('statements', 'end', page),
  refused(
    'more statements than a page has',
    'end',
    { ...page, statements: Array(129).fill(said.admit) },
    'InvalidMessageError'
  ),
  both('an admission', 'redeemed', admitted),
  both('an admission with a secret that was changed', 'redeemed', { ...admitted, ...newSecret }),
  both('a ticket that is late', 'redeemed', expired),
  both('adopted', 'told', { type: 'adopted' }),
  both('a later secret', 'told', { type: 'later', rotation: newSecret }),
  ...malformed('opening')
]

const weights = [
  both('a request', 'request', { sha256: SHA, offset: 0, credit: 65_536 }),
  read(
    'a request of a later version',
    'request',
    { sha256: SHA, offset: 7, credit: 8192, ...later },
    {
      sha256: SHA,
      offset: 7,
      credit: 8192
    }
  ),
  refused(
    'a credit below the least',
    'request',
    { sha256: SHA, offset: 0, credit: 8191 },
    'InvalidMessageError'
  ),
  refused(
    'a name that is none',
    'request',
    { sha256: '../etc/passwd', offset: 0, credit: 8192 },
    'InvalidMessageError'
  ),
  refused(
    'a critical field that is unknown',
    'request',
    { sha256: SHA, offset: 0, credit: 8192, critical: ['colour'] },
    'NotUnderstoodError'
  ),
  both('a blob', 'reply', { type: 'blob', bytes: 20_000 }),
  both('absent', 'reply', { type: 'failed', code: 'absent', reason: 'no such blob here' }),
  read(
    'a word of a later version',
    'reply',
    { type: 'failed', code: 'moon', reason: 'far' },
    {
      type: 'failed',
      code: 'internal',
      reason: 'far'
    }
  ),
  ...malformed('request')
]
/** A whole fetch: what the client sends, and what the server has sent in answer to each of it. */
const fetched = {
  blob: [['5a', 20_000]],
  steps: [
    {
      received: framed({ sha256: SHA, offset: 1000, credit: 8192 }),
      sent: [
        [framed({ type: 'blob', bytes: 20_000 }), 1],
        ['5a', 8192]
      ]
    },
    { received: '00001000', sent: [['5a', 4096]] },
    { received: '00002000', sent: [['5a', 6712]] }
  ]
}

interface Frame {
  type: 'hidden' | 'token' | 'error' | 'drop' | 'pooled'
  rows: { sessionId: string; position: number; epoch?: number; mask?: string }[]
  tokens: number
  hiddenSize: number
  sample: boolean
  timings: { arrivedAtMs: number; sentAtMs: number; computeMs: number }[]
}

/** Everything before the payload, little endian. */
function frameHead({ type, rows, tokens, hiddenSize, sample, timings }: Frame, payloadBytes: number): Buffer {
  const masks = Buffer.from(rows.map(({ mask = '' }) => mask).join(''), 'hex')
  const view = new DataView(new ArrayBuffer(24 + 28 * rows.length + 20 * timings.length))
  const first = [4, ['hidden', 'token', 'error', 'drop', 'pooled'].indexOf(type), sample ? 1 : 0, 1]
  for (const [at, byte] of first.entries()) view.setUint8(at, byte)
  view.setUint16(4, rows.length, true)
  view.setUint16(6, timings.length, true)
  for (const [at, value] of [tokens, hiddenSize, payloadBytes, masks.byteLength].entries())
    view.setUint32(8 + 4 * at, value, true)
  let at = 24
  for (const { sessionId, position, epoch = 0, mask = '' } of rows) {
    for (let i = 0; i < 16; i++) view.setUint8(at + i, Number.parseInt(sessionId.slice(2 * i, 2 * i + 2), 16))
    view.setUint32(at + 16, position, true)
    view.setUint32(at + 20, epoch, true)
    view.setUint32(at + 24, mask.length / 2, true)
    at += 28
  }
  for (const { arrivedAtMs, sentAtMs, computeMs } of timings) {
    view.setFloat64(at, arrivedAtMs, true)
    view.setFloat64(at + 8, sentAtMs, true)
    view.setFloat32(at + 16, computeMs, true)
    at += 20
  }
  return Buffer.concat([Buffer.from(view.buffer), masks])
}

const floats = (values: number[]) => {
  const view = new DataView(new ArrayBuffer(4 * values.length))
  for (const [at, value] of values.entries()) view.setFloat32(4 * at, value, true)
  return Buffer.from(view.buffer)
}

const drawnBytes = (drawn: { id: number; logprob: number; top: { id: number; logprob: number }[] }[]) =>
  Buffer.concat(
    drawn.flatMap(({ id, logprob, top }) => {
      const count = Buffer.from(Uint32Array.of(top.length).buffer)
      return [
        count,
        ...[{ id, logprob }, ...top].flatMap(each => [
          Buffer.from(Int32Array.of(each.id).buffer),
          floats([each.logprob])
        ])
      ]
    })
  )

const timing = { arrivedAtMs: 1795000000000.25, sentAtMs: 1795000000002.5, computeMs: 1.5 }
const base: Frame = {
  type: 'hidden',
  rows: [{ sessionId: SESSION, position: 70_000 }],
  tokens: 1,
  hiddenSize: 0,
  sample: true,
  timings: [timing]
}
const hidden = [0, -1, 0.5, 3.4028234663852886e38, -1.401298464324817e-45, 1, 2, 3]
const two = [base.rows[0]!, { sessionId: 'f'.repeat(32), position: 3 }]
// Of eight tokens the second and the last, deflated.
const masked = { ...base.rows[0]!, mask: '6b0200' }
const guess = { ...base.rows[0]!, epoch: 3 }
const drop: Frame = { ...base, type: 'drop', rows: [guess], tokens: 0, sample: false, timings: [] }
const drawn = [
  {
    id: 5,
    logprob: -0.25,
    top: [
      { id: 5, logprob: -0.25 },
      { id: 31_999, logprob: -3.5 }
    ]
  },
  { id: 7, logprob: -1, top: [] }
]
const error = { code: 'next', message: 'the stream to box broke' }
const errorBytes = Buffer.from(`${error.code}\0${error.message}`)

const whole = (frame: Frame, payload: Buffer) =>
  Buffer.concat([frameHead(frame, payload.byteLength), payload]).toString('hex')
const prefill: Frame = { ...base, tokens: 2, hiddenSize: 4, sample: false, timings: [] }
const wide: Frame = { ...base, tokens: 512, hiddenSize: 64 }
const WIDE_BYTES = 512 * 64 * 4
/** A frame with some bytes overwritten. */
const broken = (at: number, hex: string, frame = prefill, payload = floats(hidden)) => {
  const bytes = Buffer.from(whole(frame, payload), 'hex')
  bytes.write(hex, at, 'hex')
  return bytes.toString('hex')
}
const stage = {
  frames: [
    {
      name: 'hidden states of two tokens',
      bytes: whole(prefill, floats(hidden)),
      frame: { ...prefill, hidden }
    },
    {
      name: 'hidden states in pieces of any size',
      bytes: whole(prefill, floats(hidden)),
      pieces: [1, 18, 3, 25, 1],
      frame: { ...prefill, hidden }
    },
    {
      name: 'a micro-batch of two sessions',
      bytes: whole({ ...base, rows: two, tokens: 2, hiddenSize: 4 }, floats(hidden)),
      frame: { ...base, rows: two, tokens: 2, hiddenSize: 4, hidden }
    },
    {
      name: 'hidden states that leave in several writes',
      bytes: [
        [frameHead(wide, WIDE_BYTES).toString('hex'), 1],
        ['0000803f', WIDE_BYTES / 4]
      ] as Bytes,
      writes: [65_504, 65_504, WIDE_BYTES + 72 - 2 * 65_504],
      frame: { ...wide, hidden: { repeat: 1, count: WIDE_BYTES / 4 } }
    },
    {
      name: 'a guess, in the third epoch of its session',
      bytes: whole({ ...base, rows: [guess], hiddenSize: 8 }, floats(hidden)),
      frame: { ...base, rows: [guess], hiddenSize: 8, hidden }
    },
    {
      name: 'a step of two sessions, the first of which may draw some tokens only',
      bytes: whole({ ...base, rows: [masked, two[1]!], tokens: 2, hiddenSize: 4 }, floats(hidden)),
      frame: { ...base, rows: [masked, two[1]!], tokens: 2, hiddenSize: 4, hidden }
    },
    {
      name: 'drawn tokens',
      bytes: whole({ ...base, type: 'token', rows: two, tokens: 2 }, drawnBytes(drawn)),
      frame: { ...base, type: 'token', rows: two, tokens: 2, drawn }
    },
    {
      name: 'the news that earlier epochs are stale',
      bytes: whole(drop, Buffer.alloc(0)),
      frame: drop
    },
    {
      name: 'what a session comes to',
      bytes: whole({ ...base, type: 'pooled', tokens: 3, hiddenSize: 2 }, floats([0.5, -0.25])),
      frame: { ...base, type: 'pooled', tokens: 3, hiddenSize: 2, pooled: [0.5, -0.25] }
    },
    {
      name: 'an error',
      bytes: whole({ ...base, type: 'error', tokens: 0, sample: false, timings: [] }, errorBytes),
      frame: { ...base, type: 'error', tokens: 0, sample: false, timings: [], ...error }
    },
    {
      name: 'an error with a word of a later version',
      bytes: whole(
        { ...base, type: 'error', tokens: 0, sample: false, timings: [] },
        Buffer.from('moon\0far')
      ),
      frame: { ...base, type: 'error', tokens: 0, sample: false, timings: [], code: 'stage', message: 'far' },
      readOnly: true
    }
  ],
  refused: [
    { name: 'another version', bytes: broken(0, '02'), error: 'InvalidMessageError' },
    { name: 'an unknown type', bytes: broken(1, '05'), error: 'InvalidMessageError' },
    { name: 'unknown flags', bytes: broken(2, '02'), error: 'InvalidMessageError' },
    { name: 'another dtype', bytes: broken(3, '02'), error: 'InvalidMessageError' },
    { name: 'no session', bytes: broken(4, '0000'), error: 'LimitExceededError' },
    { name: 'too many sessions', bytes: broken(4, '0101'), error: 'LimitExceededError' },
    { name: 'too many timings', bytes: broken(6, '0101'), error: 'LimitExceededError' },
    { name: 'too many tokens', bytes: broken(8, '01020000'), error: 'LimitExceededError' },
    { name: 'no tokens', bytes: broken(8, '00000000'), error: 'LimitExceededError' },
    { name: 'hidden states that are too wide', bytes: broken(12, '01400000'), error: 'LimitExceededError' },
    { name: 'a payload of another size', bytes: broken(16, '24000000'), error: 'InvalidMessageError' },
    { name: 'a position beyond every context', bytes: broken(40, '01000001'), error: 'LimitExceededError' },
    {
      name: 'a mask that is larger than all of them',
      bytes: broken(48, '01000000'),
      error: 'InvalidMessageError'
    },
    { name: 'masks that are too large', bytes: broken(20, '01810000'), error: 'LimitExceededError' },
    {
      name: 'sessions with more tokens than one each',
      bytes: broken(8, '03000000', { ...base, rows: two, tokens: 2, hiddenSize: 4 }),
      error: 'InvalidMessageError'
    },
    {
      name: 'a time that is none',
      bytes: broken(52, '000000000000f87f', { ...base, hiddenSize: 8 }),
      error: 'InvalidMessageError'
    },
    {
      name: 'tokens with more alternatives than there may be',
      bytes: broken(72, '15000000', { ...base, type: 'token' }, drawnBytes([drawn[1]!])),
      error: 'InvalidMessageError'
    },
    {
      name: 'a drop with something behind its sessions',
      bytes: whole(drop, floats([1])),
      error: 'InvalidMessageError'
    },
    {
      name: 'a vector of another size',
      bytes: whole({ ...base, type: 'pooled', hiddenSize: 3 }, floats([0.5, -0.25])),
      error: 'InvalidMessageError'
    },
    {
      name: 'a vector of two sessions',
      bytes: whole({ ...base, type: 'pooled', rows: two, tokens: 2, hiddenSize: 2 }, floats([0.5, -0.25])),
      error: 'InvalidMessageError'
    },
    {
      name: 'a token frame of a megabyte',
      bytes: broken(16, '00001000', { ...base, type: 'token' }, drawnBytes([drawn[1]!])),
      error: 'LimitExceededError'
    }
  ]
}

const secret = '07'.repeat(32)
const derived = (purpose: string, bytes: number) =>
  Buffer.from(hkdfSync('sha256', Buffer.from(secret, 'hex'), Buffer.alloc(0), purpose, bytes)).toString('hex')
const tag = derived('edgeshard mdns tag 1', 8)
const keys = {
  secret,
  prologue: derived('edgeshard noise prologue 1', 32),
  serviceTag: `_es-${tag}._udp.local`,
  interfaceTag: `_esi-${tag}._udp.local`,
  nameKey: derived('edgeshard mdns name 1', 32)
}

/** `/ip4/10.0.0.2/tcp/7446/p2p/<B>`: the id's multihash is of an Ed25519 key whose first byte is 'b'. */
const address = Buffer.concat([
  Buffer.from('040a000002' + '061d16' + 'a50326' + '002408011220', 'hex'),
  Buffer.from('b'.padEnd(32, '\0'))
])
const expiry = Buffer.alloc(4)
expiry.writeUInt32BE(2_000_000_000)
const ticketBody = Buffer.concat([
  Buffer.from(secret, 'hex'),
  expiry,
  Buffer.from(NONCE, 'hex').reverse(),
  Buffer.from(NONCE, 'hex'),
  founder.raw,
  desk.raw,
  Buffer.of(address.byteLength),
  address
])
const check = createHash('sha256').update(ticketBody).digest().subarray(0, 4)
const ticket = {
  text: `edgeshard2-${Buffer.concat([ticketBody, check]).toString('base64url')}`,
  secret,
  mesh,
  inviter: desk.peerId,
  code: Buffer.from(NONCE, 'hex').reverse().toString('hex'),
  addresses: [`/ip4/10.0.0.2/tcp/7446/p2p/${B}`],
  expiresAtMs: 2_000_000_000_000
}

/** Octet strings of less than 128 bytes, each behind its length. */
const lv = (...parts: (Buffer | string)[]) =>
  Buffer.concat(parts.flatMap(part => [Buffer.of(part.length), Buffer.from(part as string, 'ascii')]))
const sha512 = (...parts: (Buffer | string)[]) =>
  createHash('sha512')
    .update(Buffer.concat(parts.map(part => Buffer.from(part as string, 'ascii'))))
    .digest()

/** One run of pairing with scalars that are no secret. */
function pairingRun() {
  const [code, joiner, member, device] = ['042517', peerIdOf('joiner'), peerIdOf('member'), B]
  const sid = Buffer.from(NONCE, 'hex')
  const dsi = 'CPaceRistretto255'
  const padding = Buffer.alloc(128 - (1 + dsi.length) - (1 + code.length) - 1)
  const generator = ristretto255_hasher.deriveToCurve!(
    sha512(lv(dsi, code, padding, lv(joiner, member), sid))
  )
  const scalars = { joiner: '03'.repeat(31), member: '05'.repeat(31) }
  const scalarOf = (side: keyof typeof scalars) =>
    BigInt(`0x${Buffer.from(scalars[side], 'hex').reverse().toString('hex')}`)
  const share = (side: keyof typeof scalars) => Buffer.from(generator.multiply(scalarOf(side)).toBytes())
  const secret = generator.multiply(scalarOf('joiner')).multiply(scalarOf('member')).toBytes()
  const said = {
    joiner: lv(share('joiner'), `joins ${device}`),
    member: lv(share('member'), 'admits')
  }
  const key = sha512(lv(`${dsi}_ISK`, sid, Buffer.from(secret)), said.joiner, said.member)
  const tagOf = (side: keyof typeof said) =>
    createHmac('sha512', sha512('CPaceMac', sid, key))
      .update(said[side])
      .digest('hex')
  const nonce = Buffer.alloc(12, 9)
  const ticketKey = hkdfSync('sha512', key, Buffer.alloc(0), 'edgeshard pairing ticket 1', 32)
  const cipher = createCipheriv('aes-256-gcm', Buffer.from(ticketKey), nonce)
  const sealed = Buffer.concat([cipher.update(ticket.text), cipher.final(), cipher.getAuthTag()])
  return {
    code,
    channel: { joiner, member },
    scalars: { joiner: `${scalars.joiner}00`, member: `${scalars.member}00` },
    prologue: createHash('sha256').update('edgeshard pairing prologue 1').digest('hex'),
    ticket: ticket.text,
    start: { type: 'start', sid: sid.toString('hex'), device, share: share('joiner').toString('hex') },
    share: { type: 'share', share: share('member').toString('hex') },
    confirm: { type: 'confirm', tag: tagOf('joiner') },
    end: {
      type: 'ticket',
      tag: tagOf('member'),
      nonce: nonce.toString('hex'),
      ticket: sealed.toString('base64url')
    }
  }
}

const run = pairingRun()
const pairing = [
  both('a device that was told a code', 'start', run.start),
  read('a device of a later version', 'start', { ...run.start, ...later }, run.start),
  both('the share of a member', 'started', run.share),
  both('what shows the code', 'confirm', run.confirm),
  both('a ticket', 'ended', run.end),
  both('pairing is closed', 'started', { type: 'refused', code: 'closed' }),
  both('another code', 'ended', { type: 'refused', code: 'wrong-code' }),
  read(
    'a word of a later version',
    'ended',
    { type: 'refused', code: 'moon' },
    { type: 'refused', code: 'internal' }
  ),
  refused('another type', 'start', { ...run.start, type: 'begin' }, 'InvalidMessageError'),
  refused('a word of the other side', 'start', run.share, 'InvalidMessageError'),
  refused('a share that is too short', 'start', { ...run.start, share: '00' }, 'InvalidMessageError'),
  refused('a device that is no peer id', 'start', { ...run.start, device: 'x' }, 'InvalidMessageError'),
  refused(
    'a tag that is too long',
    'confirm',
    { ...run.confirm, tag: 'ab'.repeat(65) },
    'InvalidMessageError'
  ),
  refused('a ticket without end', 'ended', { ...run.end, ticket: 'A'.repeat(12_289) }, 'InvalidMessageError'),
  ...malformed('start')
]

const files = {
  directory: { protocol: PROTOCOLS.directory[0], messages: directory },
  lease: { protocol: PROTOCOLS.lease[0], messages: lease },
  links: { protocol: PROTOCOLS.links[0], messages: links },
  membership: { protocol: PROTOCOLS.membership[0], messages: membership },
  pairing: { protocol: '/edgeshard/pairing/1', messages: pairing, run },
  weights: { protocol: PROTOCOLS.weights[0], messages: weights, fetched },
  stage: { protocol: PROTOCOLS.stage[0], ...stage },
  statements,
  keys,
  ticket
}
for (const [name, content] of Object.entries(files)) {
  await writeFile(new URL(`./${name}.json`, import.meta.url), `${JSON.stringify(content, null, 2)}\n`)
}
