/**
 * The directory protocol: what a node says of itself, and heartbeats, on one long-lived control stream per pair of
 * peers. Both sides send their record when it opens and after every change; a record about any other node than its
 * sender ends the stream. Round-trip times come from the heartbeats.
 *
 * @example
 * ```ts
 * const directory = await createDirectoryService(host, {
 *   own: () => table.own,
 *   contacts: () => known.contacts(),
 *   onRecord: (peerId, record) => table.update(peerId, record),
 *   onContacts: (peerId, contacts) => contacts.forEach(dialLater),
 *   onRtt: (peerId, rttMs) => table.measured(peerId, rttMs),
 *   onError: (peerId, error) => log(peerId, error)
 * })
 * ```
 */
import type { Stream } from '@libp2p/interface'
import { isViolation } from '../errors.ts'
import { JsonStream } from '../json-stream.ts'
import type { Transport } from '../transport.ts'
import { Opener } from './client.ts'
import { DIRECTORY_PROTOCOL_3, MAX_DIRECTORY_STREAMS, RECORD_PAUSE_MS } from './constants.ts'
import { Control, type News } from './control.ts'
import { MessageRates } from './message-rates.ts'
import type { RelayMessage } from './messages.ts'
import { type DirectoryHandlers, hear } from './server.ts'

export { Exchange, type ExchangeMessage, type Timers } from './exchange.ts'
export type { Contact, RelayMessage } from './messages.ts'
export {
  type LayerProfile,
  type LinkEstimate,
  type NodeRecord,
  nodeRecordSchema,
  recordEntries
} from './record.ts'
export type { DirectoryHandlers } from './server.ts'
export {
  type FarRecord,
  farRecordSchema,
  type SignedRecord,
  signedRecordBytes
} from './signed-record.ts'
export { Tokens } from './tokens.ts'

export interface DirectoryService {
  /** Call when a peer is connected and when it is gone. */
  connected(peerId: string): void
  disconnected(peerId: string): void
  /** Call when a connected peer speaks no version of the protocol that this node does. */
  unable(peerId: string): void
  /** The own record or the contacts changed: every peer hears of it, at most every RECORD_PAUSE_MS. */
  announce(): void
  /** Sends one more heartbeat, whose echo arrives as `onRtt`. */
  ping(peerId: string): void
  /** Says something of relayed records to a peer whose control stream is of a version that knows them. */
  say(peerId: string, message: RelayMessage): void
  stop(): Promise<void>
}

/**
 * One control stream per pair: the peer with the smaller id opens it, both talk on it.
 *
 * Records go straight to every peer that is connected. In a mesh of up to 16 all are, so that there is none that only
 * gossip would reach. Measured with 8 nodes on loopback and records of 1 kB (`npm run bench:directory`;
 * @libp2p/gossipsub 17.1.1 with D = 8 and flood publishing): a change is known to all after 4 ms and takes 9 kB in all, by
 * gossip 13 ms and 81 kB. Idle, gossipsub sends next to nothing, but the heartbeats that tell which members live are
 * needed beside it: 2.2 kB/s a node, here and there. In a larger mesh records are signed by their device and handed on
 * (`Exchange`), on the same streams.
 */
export async function createDirectoryService(
  transport: Transport,
  handlers: DirectoryHandlers
): Promise<DirectoryService> {
  const controls = new Map<string, Control>()
  const rates = new MessageRates()
  let pause: NodeJS.Timeout | undefined
  let changedInPause = false

  const run = (stream: Stream, peerId: string): void => {
    if (opener.isShutOut(peerId)) {
      stream.abort(new Error('the peer broke the directory protocol'))
      return
    }
    const messages = new JsonStream(stream, { onBytes: () => transport.touch(peerId) })
    const relays = knowsRelays(stream, transport)
    const control = new Control(messages, {
      role: peerId < transport.peerId ? 'answers' : 'asks',
      relays,
      sinceSentMs: () => transport.sinceSentMs(peerId),
      news: () => newsFor(peerId, { record: handlers.own(), contacts: handlers.contacts() }, handlers)
    })
    controls.get(peerId)?.messages.abort(new Error('replaced by a newer control stream'))
    controls.set(peerId, control)
    opener.began(peerId)
    void control.tell()
    control.start()
    if (relays) handlers.onRelaysOpen?.(peerId)
    hear(control, peerId, handlers, rates)
      .catch((error: Error) => {
        if (!opener.isPresent(peerId)) return
        if (isViolation(error)) opener.shutOut(peerId)
        handlers.onError(peerId, error)
      })
      .finally(() => {
        control.stop()
        messages.abort(new Error('the control stream ended'))
        if (controls.get(peerId) === control) {
          controls.delete(peerId)
          if (relays) handlers.onRelaysEnd?.(peerId)
          opener.ended(peerId)
        }
      })
  }

  const opener = new Opener({ transport, run, onError: handlers.onError })

  const announce = (): void => {
    changedInPause = pause !== undefined
    if (changedInPause) return
    const news = { record: handlers.own(), contacts: handlers.contacts() }
    for (const [peerId, control] of controls) void control.tell(newsFor(peerId, news, handlers))
    pause = setTimeout(() => {
      pause = undefined
      if (changedInPause) announce()
    }, RECORD_PAUSE_MS)
  }

  const unhandle = await transport.handle(transport.protocols.directory, run, {
    maxInboundStreams: MAX_DIRECTORY_STREAMS
  })

  return {
    connected: peerId => opener.connected(peerId),
    disconnected(peerId) {
      opener.disconnected(peerId)
      controls.get(peerId)?.messages.abort(new Error('the peer is gone'))
    },
    unable: peerId => opener.unable(peerId),
    announce,
    ping(peerId) {
      controls.get(peerId)?.ping()
    },
    say(peerId, message) {
      controls.get(peerId)?.say(message)
    },
    async stop() {
      opener.stop()
      clearTimeout(pause)
      await unhandle()
      for (const { messages } of controls.values()) messages.abort(new Error('the node stops'))
    }
  }
}

/** A stream of the version before has no messages about relayed records. */
function knowsRelays({ protocol }: Stream, { protocols }: Transport): boolean {
  return protocols.directory.includes(protocol) && protocol !== DIRECTORY_PROTOCOL_3
}

/** No peer needs to be told that it is connected to itself, but that another one is it, too. */
function newsFor(
  peerId: string,
  { record, contacts }: News,
  { twinOf }: Pick<DirectoryHandlers, 'twinOf'>
): News {
  const others = contacts.filter(contact => contact.peerId !== peerId)
  const twin = twinOf?.(peerId)
  return { record, contacts: twin === undefined ? others : [twin, ...others] }
}
