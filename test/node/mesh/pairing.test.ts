import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { MAX_RUNS, MAX_TRIES, OPENING_MS } from '../../../node/mesh/opening.ts'
import { type Door, Pairing } from '../../../node/mesh/pairing.ts'
import { MAX_WRONG_CODES } from '../../../node/mesh/wrong-codes.ts'
import type { PairingHandlers } from '../../../protocols/pairing/index.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const DEVICE = peerIdOf('device')
/** The address of a caller's connection; there is none of one that is gone. */
const IPS: Record<string, string> = { one: '192.0.2.1', other: '192.0.2.2' }

/** Pairing without a network: what its listener would ask, a test asks. */
function desk({ isIn = true, ticket = async () => 'ticket' } = {}) {
  const doors: { handlers: PairingHandlers; closed: boolean }[] = []
  const notices: string[] = []
  const invited: [ttlMs: number, device: string][] = []
  const pairing = new Pairing({
    openDoor: async (handlers): Promise<Door> => {
      const door = { handlers, closed: false }
      doors.push(door)
      return {
        addresses: ['/ip4/127.0.0.1/tcp/1'],
        ipOf: caller => IPS[caller],
        close: async () => void (door.closed = true)
      }
    },
    invite: async (ttlMs, device) => {
      invited.push([ttlMs, device])
      return await ticket()
    },
    checkIsIn: () => {
      if (!isIn) throw new Error('it is not in')
    },
    onNotice: message => notices.push(message),
    nowMs: () => Date.now()
  })
  const handlers = () => doors.at(-1)!.handlers
  const code = () => (pairing.state.open ? pairing.state.code : undefined)
  return { pairing, doors, notices, invited, handlers, code }
}

test('it is closed until a person opens it, and shows a code of six digits for two minutes', async () => {
  const { pairing, doors, handlers, code } = desk()
  expect(pairing.state).toEqual({ open: false })
  expect(doors).toEqual([])
  const opened = await pairing.open()
  expect(opened).toMatchObject({
    open: true,
    leftMs: 120_000,
    triesLeft: 3,
    addresses: ['/ip4/127.0.0.1/tcp/1']
  })
  expect(code()).toMatch(/^\d{6}$/)
  expect(handlers().shown()?.code).toBe(code())
  await vi.advanceTimersByTimeAsync(OPENING_MS - 1)
  expect(pairing.state).toMatchObject({ open: true, leftMs: 1 })
  await vi.advanceTimersByTimeAsync(1)
  expect(pairing.state).toEqual({ open: false, end: 'expired' })
  expect(handlers().shown()).toBeUndefined()
  expect(doors[0]!.closed).toBe(true)
})

test('the code is not taken a moment longer, where the timer is late', async () => {
  const { pairing, handlers } = desk()
  await pairing.open()
  vi.setSystemTime(Date.now() + OPENING_MS)
  expect(handlers().shown()).toBeUndefined()
  expect(pairing.state).toEqual({ open: false, end: 'expired' })
})

test('a code is used once, by one device, which gets a ticket for itself alone', async () => {
  const { pairing, handlers, invited, doors } = desk()
  await pairing.open()
  const ticket = handlers().right(DEVICE, 'one')
  // At once: what is judged next, however near, finds it closed.
  expect(handlers().shown()).toBeUndefined()
  expect(await ticket).toBe('ticket')
  expect(invited).toEqual([[120_000, DEVICE]])
  expect(pairing.state).toEqual({ open: false, end: 'paired', device: DEVICE, from: '192.0.2.1' })
  await vi.waitFor(() => expect(doors[0]!.closed).toBe(true))
})

test('it says that a device is paired when its ticket is made, and whatever else comes waits for that', async () => {
  const made = Promise.withResolvers<string>()
  const { pairing, handlers, code } = desk({ ticket: () => made.promise })
  await pairing.open()
  const ticket = handlers().right(DEVICE, 'one')
  expect([pairing.state.open, handlers().shown()]).toEqual([true, undefined])
  for (let run = 0; run <= MAX_RUNS; run++) handlers().began()
  await vi.advanceTimersByTimeAsync(OPENING_MS)
  expect(pairing.state).toMatchObject({ open: true })
  const closed = pairing.close()
  const opened = pairing.open()
  made.resolve('ticket')
  expect(await ticket).toBe('ticket')
  expect(await closed).toEqual({ open: false, end: 'paired', device: DEVICE, from: '192.0.2.1' })
  expect(await opened).toMatchObject({ open: true, code: code() })
})

test('a ticket that cannot be made pairs nobody, and people hear of it', async () => {
  const { pairing, handlers, notices, doors } = desk({ ticket: () => Promise.reject(new Error('no room')) })
  await pairing.open()
  await expect(handlers().right(DEVICE, 'one')).rejects.toThrow('no room')
  expect(handlers().shown()).toBeUndefined()
  expect(pairing.state).toEqual({ open: false, end: 'failed', device: DEVICE, from: '192.0.2.1' })
  expect(notices).toEqual([expect.stringContaining('no ticket could be made: no room')])
  await vi.waitFor(() => expect(doors[0]!.closed).toBe(true))
  expect(await pairing.open()).toMatchObject({ open: true })
})

test('three wrong codes close it, and people hear of it', async () => {
  const { pairing, handlers, notices } = desk()
  await pairing.open()
  for (let tries = 1; tries < MAX_TRIES; tries++) {
    handlers().wrong('one')
    expect(pairing.state).toMatchObject({ open: true, triesLeft: MAX_TRIES - tries, from: '192.0.2.1' })
  }
  handlers().wrong('other')
  expect(handlers().shown()).toBeUndefined()
  expect(pairing.state).toEqual({ open: false, end: 'tries', from: '192.0.2.2' })
  expect(notices).toEqual([expect.stringContaining('closed after three wrong codes')])
})

test('callers that try nothing are let in 64 times, and then it is closed', async () => {
  const { pairing, handlers, notices } = desk()
  await pairing.open()
  for (let run = 0; run < MAX_RUNS; run++) handlers().began()
  expect(pairing.state).toMatchObject({ open: true, triesLeft: 3 })
  handlers().began()
  expect(handlers().shown()).toBeUndefined()
  expect(pairing.state).toEqual({ open: false, end: 'tries' })
  expect(notices).toEqual([expect.stringContaining('more callers')])
})

test('opened again it has another code, and the one before is taken by nobody', async () => {
  const { pairing, doors, code } = desk()
  const codes: unknown[] = []
  for (let round = 0; round < 4; round++) {
    await pairing.open()
    codes.push(code())
  }
  expect(new Set(codes).size).toBeGreaterThan(1)
  expect(doors.map(({ handlers }) => handlers.shown() !== undefined)).toEqual([false, false, false, true])
  await vi.waitFor(() => expect(doors.map(({ closed }) => closed)).toEqual([true, true, true, false]))
  // A run of the first opening that is judged now says nothing of the last.
  doors[0]!.handlers.wrong('one')
  expect(pairing.state).toMatchObject({ open: true, triesLeft: 3 })
})

test('wrong codes are counted in sum: after fifteen within an hour it stays closed until the hour is over', async () => {
  const { pairing, handlers } = desk()
  for (let wrong = 0; wrong < MAX_WRONG_CODES; wrong++) {
    if (!pairing.state.open) await pairing.open()
    handlers().wrong('gone')
    await vi.advanceTimersByTimeAsync(1000)
  }
  await expect(pairing.open()).rejects.toMatchObject({
    name: 'PairingPausedError',
    message: expect.stringContaining('stays closed for 60 minutes')
  })
  await vi.advanceTimersByTimeAsync(3600_000 - 16_000)
  await expect(pairing.open()).rejects.toMatchObject({ name: 'PairingPausedError' })
  await vi.advanceTimersByTimeAsync(1000)
  expect(await pairing.open()).toMatchObject({ open: true })
})

test('who is in no mesh itself opens nothing, and who stops closes and opens nothing more', async () => {
  const stranger = desk({ isIn: false })
  await expect(stranger.pairing.open()).rejects.toThrow('it is not in')
  expect(stranger.doors).toEqual([])
  const { pairing, doors } = desk()
  await pairing.open()
  await pairing.stop()
  expect(doors[0]!.closed).toBe(true)
  await expect(pairing.open()).rejects.toMatchObject({ name: 'StoppingError' })
  expect(doors.length).toBe(1)
})

test('closed by a person it stays so, however often', async () => {
  const { pairing, doors } = desk()
  expect(await pairing.close()).toEqual({ open: false })
  await pairing.open()
  expect(await pairing.close()).toEqual({ open: false, end: 'closed' })
  expect(await pairing.close()).toEqual({ open: false, end: 'closed' })
  await vi.waitFor(() => expect(doors[0]!.closed).toBe(true))
})
