import { InvalidMessageError, NotUnderstoodError, RemoteError } from '../errors.ts'
import { MAX_SEQUENCE_STEP } from './constants.ts'
import type { Control } from './control.ts'
import type { MessageRates } from './message-rates.ts'
import { type Contact, directoryMessage, type RelayMessage } from './messages.ts'
import type { NodeRecord } from './record.ts'

export interface DirectoryHandlers {
  /** The own record as it is now. */
  own(): NodeRecord
  /** Members that this node is connected to and where; at most MAX_CONTACTS are sent. */
  contacts(): Contact[]
  /** Where two run under a peer's id, the name of one and the addresses of both: the peer itself is told. */
  twinOf?(peerId: string): Contact | undefined
  /** Members that a peer says it is connected to: hints, not facts. */
  onContacts(peerId: string, contacts: Contact[]): void
  /** A newer record of `peerId`, about itself. */
  onRecord(peerId: string, record: NodeRecord): void
  onRtt(peerId: string, rttMs: number): void
  /** A control stream to the peer is open whose version knows relayed records; another one may have ended for it. */
  onRelaysOpen?(peerId: string): void
  onRelaysEnd?(peerId: string): void
  /**
   * A peer says something of relayed records.
   *
   * @throws {InvalidMessageError} {LimitExceededError} for what no honest peer says; that ends the stream
   */
  onRelay?(peerId: string, message: RelayMessage): void
  /** The control stream of a connected peer ended; the protocol opens another one. */
  onError(peerId: string, error: Error): void
}

/**
 * Hands on what a peer says on a control stream, until that ends.
 *
 * @throws what ended it: {InvalidMessageError} {LimitExceededError} {NotUnderstoodError} {StreamEndedError}, and
 * {RemoteError} code `refused` where the peer could not read what it was sent
 */
export async function hear(
  control: Control,
  peerId: string,
  handlers: Pick<DirectoryHandlers, 'onContacts' | 'onRecord' | 'onRelay' | 'onRtt'>,
  rates: MessageRates
): Promise<never> {
  // The first record of a stream may be any: the peer may have been up for long, or have started anew.
  let newest = Number.NaN
  for (;;) {
    const message = await control.messages.read(directoryMessage).catch(async error => {
      if (error instanceof NotUnderstoodError) await control.refuse(error.message)
      throw error
    })
    rates.count(peerId)
    switch (message.type) {
      case 'record': {
        const { record } = message
        if (record.peerId !== peerId) {
          throw new InvalidMessageError(`${peerId} sent a record of ${record.peerId}`)
        }
        if (record.sequence <= newest || record.sequence > newest + MAX_SEQUENCE_STEP) {
          throw new InvalidMessageError(`${peerId} sent record ${record.sequence} after ${newest}`)
        }
        newest = record.sequence
        handlers.onRecord(peerId, record)
        break
      }
      case 'contacts':
        handlers.onContacts(peerId, message.contacts)
        break
      case 'have':
      case 'want':
      case 'signed':
      case 'keep':
        if (!control.relays)
          throw new InvalidMessageError(`${peerId} sent ${message.type} in an older version`)
        handlers.onRelay?.(peerId, message)
        break
      case 'refused':
        throw new RemoteError(peerId, 'refused', message.reason)
      default: {
        const rttMs = control.heard(message)
        if (rttMs !== null) handlers.onRtt(peerId, rttMs)
      }
    }
  }
}
