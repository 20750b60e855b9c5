import { EventEmitter } from 'node:events'
import { expect, test } from 'vitest'
import { NotFiniteError } from '../../../models/runtime/errors.ts'
import type { PeersEvents } from '../../../node/mesh/peers.ts'
import { StageInputError } from '../../../node/stage/errors.ts'
import { type SessionOwner, Sessions } from '../../../node/stage/sessions.ts'
import type { Stage } from '../../../node/stage/stage.ts'
import { PeerLostError } from '../../../protocols/errors.ts'
import type { StageFrame } from '../../../protocols/stage/index.ts'

const [A, B, C] = ['aa', 'bb', 'cc'].map(half => half.repeat(16)) as [string, string, string]
const memory = new Float32Array(new SharedArrayBuffer(2 * 4 * 4))

/** A stage that takes note of what reaches it, or is as broken as it is told to be. */
class FakeStage {
  readonly ran: string[][] = []
  readonly closed: string[] = []
  error: Error | undefined

  memoryFor = () => ({ tokens: 2, data: memory })
  run = async (_: unknown, { rows }: { rows: { sessionId: string }[] }) => {
    this.ran.push(rows.map(({ sessionId }) => sessionId))
    if (this.error !== undefined) throw this.error
  }
  closeSession = async (id: string) => void this.closed.push(id)
  readonly droppedBefore: [string, number][] = []
  dropBefore = (id: string, epoch: number) => void this.droppedBefore.push([id, epoch])

  get stage(): Stage {
    return this as unknown as Stage
  }
}

const hidden = (...ids: string[]): StageFrame & { type: 'hidden' } => ({
  type: 'hidden',
  rows: ids.map(sessionId => ({ sessionId, position: 3 })),
  tokens: ids.length,
  hiddenSize: 4,
  sample: true,
  timings: [],
  hidden: memory
})

/** A source's end that takes note of what it is told. */
const owner = (told: string[]): SessionOwner => ({
  receive() {},
  accept() {},
  memoryFor: () => null,
  acceptStates() {},
  acceptPooled() {},
  rowsFailed() {},
  peerLost: (peerId, reason) => void told.push(`${peerId}: ${reason}`),
  fail: error => void told.push(error.message)
})

function serving(...ids: string[]) {
  const sent: { peerId: string; frame: StageFrame }[] = []
  const events = new EventEmitter<PeersEvents>()
  const send = async (peerId: string, frame: StageFrame) => void sent.push({ peerId, frame })
  const sessions = new Sessions({ send, events })
  const fake = new FakeStage()
  for (const id of ids) sessions.serve(id, { stage: fake.stage, previous: 'before', source: 'source' })
  return { sessions, events, fake, sent }
}

/** Whether the source of all these sessions has one open that `previous` feeds. */
const isOpen = (sessions: Sessions, id: string, previous = 'before') =>
  sessions.isTaken(id, { previous, source: 'source' })

test('a micro-batch reaches its stage, sessions that are closed by now included in the frame, and counted', async () => {
  const { sessions, fake } = serving(A, B)
  const frame = hidden(A, C, B)
  expect(sessions.allocate('before', frame)).toBe(memory)
  await sessions.onFrame('before', frame)
  expect(fake.ran).toEqual([[A, C, B]])
  expect(sessions.droppedFrames).toBe(1)
})

test('tokens of sessions that are closed by now are counted', () => {
  const { sessions } = serving()
  const received: string[][] = []
  const receive = (_: string, { rows }: StageFrame) => void received.push(rows.map(row => row.sessionId))
  sessions.addOwner(A, { ...owner([]), receive })
  const { hidden: _, ...head } = hidden(A, B)
  void sessions.onFrame('last', { ...head, type: 'token', drawn: [] })
  expect(received).toEqual([[A, B]])
  expect(sessions.droppedFrames).toBe(1)
})

test('hidden states for a session that begins here go to its source, where it wants them, unless they are for a stage here', async () => {
  const { sessions, fake } = serving(A)
  const asked: string[] = []
  const received: string[] = []
  const told = {
    ...owner([]),
    memoryFor: (peerId: string) => {
      asked.push(peerId)
      return peerId === 'last' ? { tokens: 1, data: memory } : null
    },
    receive: (peerId: string, { type }: StageFrame) => void received.push(`${peerId} ${type}`)
  }
  for (const id of [A, B]) sessions.addOwner(id, told)
  expect(sessions.allocate('last', hidden(B))).toBe(memory)
  await sessions.onFrame('last', hidden(B))
  expect(sessions.allocate('other', hidden(B))).toBeNull()
  expect(sessions.droppedFrames).toBe(1)
  // The tail is here, too: what comes from the stage before it is its input.
  expect(sessions.allocate('before', hidden(A))).toBe(memory)
  await sessions.onFrame('before', hidden(A))
  expect([asked, received, fake.ran]).toEqual([['last', 'other'], ['last hidden'], [[A]]])
})

test('frames for sessions of others, or of nobody, are refused and counted', async () => {
  const { sessions, fake } = serving(A, B)
  const other = new FakeStage()
  sessions.serve(C, { stage: other.stage, previous: 'before', source: 'source' })
  const refused = [
    ['stranger', hidden(A)],
    ['before', hidden('dd'.repeat(16))],
    // It belongs to two stages at once.
    ['before', hidden(A, C)]
  ] as const
  for (const [peerId, frame] of refused) expect(sessions.allocate(peerId, frame)).toBeNull()
  expect(sessions.droppedFrames).toBe(4)
  for (const [peerId, frame] of refused) await sessions.onFrame(peerId, frame)
  expect([fake.ran, other.ran]).toEqual([[], []])
})

test('what a stage cannot compute ends the sessions of the frame and their source is told', async () => {
  const { sessions, fake, sent } = serving(A, B, C)
  fake.error = new Error('the weights are damaged')
  await sessions.onFrame('before', hidden(A, B))
  expect(fake.closed).toEqual([A, B])
  expect(sent).toMatchObject([
    { peerId: 'source', frame: { type: 'error', message: 'the weights are damaged' } }
  ])
  expect(sent[0]!.frame.rows.map(({ sessionId }) => sessionId)).toEqual([A, B])
  expect([A, B, C].map(id => isOpen(sessions, id))).toEqual([false, false, true])
})

test('a next stage that cannot be reached is said to be, for the source to blame the right one', async () => {
  const { sessions, fake, sent } = serving(A)
  fake.error = new PeerLostError('after', 'the stream to after broke')
  await sessions.onFrame('before', hidden(A))
  expect(sent).toMatchObject([{ frame: { type: 'error', code: 'next' } }])
})

test('a stage before that sends what nobody expects is said to, for the source to blame it', async () => {
  const { sessions, fake, sent } = serving(A)
  fake.error = new StageInputError('a step starts at token 3')
  await sessions.onFrame('before', hidden(A))
  expect(sent).toMatchObject([{ peerId: 'source', frame: { type: 'error', code: 'input' } }])
})

test('sessions whose numbers are not finite end alone, and their source is told which', () => {
  const { sessions, fake, sent } = serving(A, B)
  sessions.rowsFailed([{ sessionId: B, position: 3 }], new NotFiniteError('not finite'))
  expect(fake.closed).toEqual([B])
  expect(isOpen(sessions, A)).toBe(true)
  expect(sent).toMatchObject([
    { peerId: 'source', frame: { type: 'error', code: 'not-finite', rows: [{ sessionId: B }] } }
  ])
})

test('a source that holds the tail itself hears of its failure at once', async () => {
  const { sessions, fake, sent } = serving(A)
  const failures: string[] = []
  sessions.addOwner(A, owner(failures))
  fake.error = new Error('no memory')
  await sessions.onFrame('before', hidden(A))
  expect(failures).toEqual(['no memory'])
  // What the peer before it sends is not its failure.
  const again = serving(A)
  again.sessions.addOwner(A, owner(failures))
  again.fake.error = new StageInputError('a step starts at token 3')
  await again.sessions.onFrame('before', hidden(A))
  expect(failures).toEqual(['no memory', 'before: a step starts at token 3'])
  expect([...sent, ...again.sent]).toEqual([])
})

test('a source hears of each of its peers that is lost or has fallen silent, once for all its sessions', () => {
  const { sessions, events } = serving()
  const told: string[] = []
  const one = owner(told)
  sessions.addOwner(A, one)
  sessions.addOwner(B, one)
  events.emit('lost', 'b', 'the connection to it was lost')
  events.emit('silent', 'c')
  sessions.removeOwner(A)
  sessions.removeOwner(B)
  events.emit('silent', 'd')
  expect(told).toEqual(['b: the connection to it was lost', 'c: it has fallen silent'])
})

test('what a stage of the source’s own draws, and whom it cannot go on with, goes to the sessions’ owner', () => {
  const { sessions } = serving(B)
  const told: unknown[] = []
  const accept: SessionOwner['accept'] = (rows, drawn) => void told.push([rows.length, drawn])
  const rowsFailed: SessionOwner['rowsFailed'] = (rows, { message }) => void told.push([rows, message])
  sessions.addOwner(B, { ...owner([]), accept, rowsFailed })
  const drawn = [{ id: 7, logprob: 0, top: [] }]
  const rows = [
    { sessionId: A, position: 3 },
    { sessionId: B, position: 3 }
  ]
  sessions.accept(rows, drawn, [])
  sessions.accept(rows.slice(0, 1), drawn, [])
  sessions.rowsFailed(rows, new Error('not finite'))
  expect(told).toEqual([
    [2, drawn],
    [rows, 'not finite']
  ])
  expect(isOpen(sessions, B)).toBe(true)
})

test('between two that cannot reach each other frames of a session are handed on as they are, and of no other', async () => {
  const { sessions, sent } = serving()
  sessions.relay(A, { from: 'one', to: 'other' })
  const frame = hidden(A)
  expect(sessions.allocate('one', frame)?.length).toBe(frame.tokens * frame.hiddenSize)
  await sessions.onFrame('one', frame)
  expect(sent).toEqual([{ peerId: 'other', frame }])
  for (const [peerId, id] of [
    ['other', A],
    ['stranger', A],
    ['one', B]
  ] as const) {
    expect(sessions.allocate(peerId, hidden(id))).toBeNull()
    await sessions.onFrame(peerId, hidden(id))
  }
  sessions.endRelays(A)
  await sessions.onFrame('one', frame)
  expect(sent.length).toBe(1)
  expect(sessions.droppedFrames).toBeGreaterThan(0)
})

test('a stage that gets nothing handed on any more is lost to the session’s source', async () => {
  const told: string[] = []
  const sessions = new Sessions({
    send: async peerId => {
      throw new PeerLostError(peerId, 'there is no connection')
    },
    events: new EventEmitter<PeersEvents>()
  })
  sessions.addOwner(A, owner(told))
  sessions.relay(A, { from: 'one', to: 'other' })
  await sessions.onFrame('one', hidden(A))
  expect(told).toEqual(['other: there is no connection'])
})

test('what is stale is the source’s to say, of its own sessions', () => {
  const { sessions, fake } = serving(A, B)
  const drop = (...ids: string[]): StageFrame => ({
    type: 'drop',
    rows: ids.map(sessionId => ({ sessionId, position: 5, epoch: 2 })),
    tokens: 0,
    hiddenSize: 0,
    sample: false,
    timings: []
  })
  void sessions.onFrame('before', drop(A))
  void sessions.onFrame('stranger', drop(A, B))
  expect(fake.droppedBefore).toEqual([])
  void sessions.onFrame('source', drop(A, C))
  expect(fake.droppedBefore).toEqual([[A, 2]])
  // One of them is not open here.
  expect(sessions.droppedFrames).toBe(1)
})

test('of two stages of a session here each gets what its neighbour sends, and both end with it', async () => {
  const { sessions, fake, sent } = serving(A)
  const second = new FakeStage()
  sessions.serve(A, { stage: second.stage, previous: 'here', isFedHere: true, source: 'source' })
  await sessions.onFrame('before', hidden(A))
  sessions.handOver('here', hidden(A))
  expect([fake.ran, second.ran]).toEqual([[[A]], [[A]]])
  expect(isOpen(sessions, A) && isOpen(sessions, A, 'here')).toBe(true)
  expect(isOpen(sessions, A, 'elsewhere')).toBe(false)
  sessions.dropBefore(A, 2)
  expect([fake.droppedBefore, second.droppedBefore]).toEqual([[[A, 2]], [[A, 2]]])
  // What it was sent is this device's own doing.
  second.error = new StageInputError('not what was expected')
  sessions.handOver('here', hidden(A))
  await new Promise(resolve => setImmediate(resolve))
  expect(sent).toMatchObject([{ peerId: 'source', frame: { type: 'error', code: 'stage' } }])
  expect([fake.closed, second.closed]).toEqual([[A], [A]])
  expect(sessions.open).toBe(0)
})

test('what is handed over is copied: its memory may be used again at once', () => {
  const { sessions, fake } = serving(A)
  const frame = hidden(A)
  frame.hidden = new Float32Array(new SharedArrayBuffer(memory.byteLength)).fill(7)
  sessions.handOver('before', frame)
  expect([...memory]).toEqual(Array(memory.length).fill(7))
  expect(fake.ran).toHaveLength(1)
})

test('what one source calls a session no other one opens here, nor one that begins here', () => {
  const { sessions } = serving(A)
  // It would get what the stage before hands over, and end with it what is not its own.
  expect(sessions.isTaken(A, { previous: 'elsewhere', source: 'stranger' })).toBe(true)
  expect(sessions.isTaken(B, { previous: 'elsewhere', source: 'stranger' })).toBe(false)
  sessions.addOwner(B, owner([]))
  expect(sessions.isTaken(B, { previous: 'elsewhere', source: 'stranger' })).toBe(true)
})
