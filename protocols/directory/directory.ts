import type { Stream } from '@libp2p/interface'
import type { z } from 'zod'
import {
  DIRECTORY_PROTOCOL,
  DIRECTORY_VIOLATION_MS,
  HEARTBEAT_MS,
  MAX_CONTACT_ADDRESSES,
  MAX_CONTACT_NAME_CHARS,
  MAX_CONTACTS,
  MAX_DIRECTORY_STREAMS,
  MAX_SEQUENCE_STEP,
  OPEN_STREAM_TIMEOUT_MS,
  RECORD_PAUSE_MS
} from '../constants.ts'
import { InvalidMessageError, isViolation } from '../errors.ts'
import { JsonStream } from '../json-stream.ts'
import type { Transport } from '../transport.ts'
import { Control } from './control.ts'
import { MessageRates } from './message-rates.ts'
import { type Contact, directoryMessage, type RecordHead } from './messages.ts'

export interface DirectoryHandlers<R extends RecordHead> {
  /** The shape of a record; whatever else it checks, it caps every string and list. */
  schema: z.ZodType<R>
  /** The own record as it is now. */
  own(): R
  /** Members that this node is connected to and where; at most MAX_CONTACTS are sent. */
  contacts(): Contact[]
  /** Members that a peer says it is connected to: hints, not facts. */
  onContacts(peerId: string, contacts: Contact[]): void
  /** A newer record of `peerId`, about itself. */
  onRecord(peerId: string, record: R): void
  onRtt(peerId: string, rttMs: number): void
  /** The control stream of a connected peer ended; the protocol opens another one. */
  onError(peerId: string, error: Error): void
}

export interface DirectoryService {
  /** Call when a peer is connected and when it is gone. */
  connected(peerId: string): void
  disconnected(peerId: string): void
  /** The own record or the contacts changed: every peer hears of it, at most every RECORD_PAUSE_MS. */
  announce(): void
  /** Sends one more heartbeat, whose echo arrives as `onRtt`. */
  ping(peerId: string): void
  stop(): Promise<void>
}

/** Every version's name of the protocol begins so. */
const ANY_VERSION = DIRECTORY_PROTOCOL.slice(0, DIRECTORY_PROTOCOL.lastIndexOf('/') + 1)

/** True of a peer's protocols when there is a directory among them, but none of this version. */
export function speaksOtherDirectory(protocols: readonly string[]): boolean {
  return !protocols.includes(DIRECTORY_PROTOCOL) && protocols.some(name => name.startsWith(ANY_VERSION))
}

/**
 * One control stream per pair: the peer with the smaller id opens it, both talk on it.
 *
 * Records go straight to every peer and not by gossip. All members are connected to each other, so there is nobody that
 * only gossip would reach, and a record passed on by others would have to be signed to be believed. Measured with 8
 * nodes on loopback and records of 1 kB (`npm run bench:directory`; @libp2p/gossipsub 17.1.1 with D = 8 and flood
 * publishing): a change is known to all after 4 ms and takes 9 kB in all, by gossip 13 ms and 81 kB. Idle, gossipsub sends
 * next to nothing, but the heartbeats that tell who lives are needed beside it: 2.2 kB/s a node, here and there.
 */
export async function createDirectoryService<R extends RecordHead>(
  transport: Transport,
  handlers: DirectoryHandlers<R>
): Promise<DirectoryService> {
  const schema = directoryMessage(handlers.schema)
  const controls = new Map<string, Control>()
  const reopening = new Map<string, NodeJS.Timeout>()
  const present = new Set<string>()
  const rates = new MessageRates()
  const violators = new Map<string, NodeJS.Timeout>()
  let pause: NodeJS.Timeout | undefined
  let changedInPause = false
  let stopped = false

  const news = () => ({ record: handlers.own(), contacts: handlers.contacts() })

  /** Of what changes while the peer takes its time only the last is sent: at most one record waits for anybody. */
  const tell = async (control: Control, peerId: string, { record, contacts } = news()): Promise<void> => {
    control.outdated = control.telling
    if (control.telling) return
    control.telling = true
    try {
      if (record.sequence > control.toldSequence) {
        control.toldSequence = record.sequence
        await control.messages.send({ type: 'record', record })
      }
      const others = contacts
        .filter(contact => contact.peerId !== peerId)
        .slice(0, MAX_CONTACTS)
        .map(({ peerId, name, addresses }) => ({
          peerId,
          name: name.slice(0, MAX_CONTACT_NAME_CHARS),
          addresses: addresses.slice(0, MAX_CONTACT_ADDRESSES)
        }))
      const key = JSON.stringify(others)
      if (key !== control.toldContacts) {
        control.toldContacts = key
        await control.messages.send({ type: 'contacts', contacts: others })
      }
    } catch (error) {
      control.messages.abort(error as Error)
      return
    }
    control.telling = false
    if (control.outdated) await tell(control, peerId)
  }

  const announce = (): void => {
    changedInPause = pause !== undefined
    if (changedInPause) return
    const now = news()
    for (const [peerId, control] of controls) void tell(control, peerId, now)
    pause = setTimeout(() => {
      pause = undefined
      if (changedInPause) announce()
    }, RECORD_PAUSE_MS)
  }

  const run = (stream: Stream, peerId: string): void => {
    if (violators.has(peerId)) {
      stream.abort(new Error('the peer broke the directory protocol'))
      return
    }
    const messages = new JsonStream(stream, { onBytes: () => transport.touch(peerId) })
    const control = new Control(messages, {
      role: peerId < transport.peerId ? 'answers' : 'asks',
      sinceSentMs: () => transport.sinceSentMs(peerId)
    })
    controls.get(peerId)?.messages.abort(new Error('replaced by a newer control stream'))
    controls.set(peerId, control)
    void tell(control, peerId)
    control.start()
    listen(control, peerId)
      .catch((error: Error) => {
        if (stopped || !present.has(peerId)) return
        if (isViolation(error)) shutOut(peerId)
        handlers.onError(peerId, error)
      })
      .finally(() => {
        control.stop()
        messages.abort(new Error('the control stream ended'))
        if (controls.get(peerId) === control) {
          controls.delete(peerId)
          reopenLater(peerId)
        }
      })
  }

  /** Nothing is heard of a peer that broke the protocol for a while: opening streams anew must not lift the limits. */
  const shutOut = (peerId: string): void => {
    clearTimeout(violators.get(peerId))
    const letIn = () => {
      violators.delete(peerId)
      reopenLater(peerId)
    }
    violators.set(peerId, setTimeout(letIn, DIRECTORY_VIOLATION_MS))
  }

  const listen = async (control: Control, peerId: string): Promise<void> => {
    // The first record of a stream may be any: the peer may have been up for long, or have started anew.
    let newest = Number.NaN
    for (;;) {
      const message = await control.messages.read(schema as z.ZodType<z.output<typeof schema>>)
      rates.count(peerId)
      if (message.type === 'record') {
        const record = message.record as R
        if (record.peerId !== peerId)
          throw new InvalidMessageError(`${peerId} sent a record of ${record.peerId}`)
        if (record.sequence <= newest || record.sequence > newest + MAX_SEQUENCE_STEP) {
          throw new InvalidMessageError(`${peerId} sent record ${record.sequence} after ${newest}`)
        }
        newest = record.sequence
        handlers.onRecord(peerId, record)
      } else if (message.type === 'contacts') {
        handlers.onContacts(peerId, message.contacts)
      } else {
        const rttMs = control.heard(message)
        if (rttMs !== null) handlers.onRtt(peerId, rttMs)
      }
    }
  }

  const open = async (peerId: string): Promise<void> => {
    try {
      const signal = AbortSignal.timeout(OPEN_STREAM_TIMEOUT_MS)
      run(await transport.newStream(peerId, DIRECTORY_PROTOCOL, { signal }), peerId)
    } catch (error) {
      if (!present.has(peerId) || stopped) return
      handlers.onError(peerId, error as Error)
      reopenLater(peerId)
    }
  }

  const reopenLater = (peerId: string): void => {
    if (stopped || !present.has(peerId) || peerId < transport.peerId || violators.has(peerId)) return
    clearTimeout(reopening.get(peerId))
    reopening.set(
      peerId,
      setTimeout(() => {
        reopening.delete(peerId)
        if (present.has(peerId) && !controls.has(peerId)) void open(peerId)
      }, HEARTBEAT_MS)
    )
  }

  const unhandle = await transport.handle(DIRECTORY_PROTOCOL, run, {
    maxInboundStreams: MAX_DIRECTORY_STREAMS
  })

  return {
    connected(peerId) {
      present.add(peerId)
      if (transport.peerId < peerId && !controls.has(peerId)) void open(peerId)
    },
    disconnected(peerId) {
      present.delete(peerId)
      controls.get(peerId)?.messages.abort(new Error('the peer is gone'))
    },
    announce,
    ping(peerId) {
      controls.get(peerId)?.ping()
    },
    async stop() {
      stopped = true
      clearTimeout(pause)
      for (const timer of [...reopening.values(), ...violators.values()]) clearTimeout(timer)
      await unhandle()
      for (const { messages } of controls.values()) messages.abort(new Error('the node stops'))
    }
  }
}
