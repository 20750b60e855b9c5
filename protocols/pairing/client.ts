import type { ReadOptions } from '../byte-reader.ts'
import { REQUEST_TIMEOUT_MS } from '../constants.ts'
import { InvalidMessageError } from '../errors.ts'
import { JsonStream } from '../json-stream.ts'
import type { Transport } from '../transport.ts'
import type { PairingCode } from './codes.ts'
import { MAX_PAIRING_MESSAGE_BYTES, PAIRING_PROTOCOL } from './constants.ts'
import { JoinerSide } from './handshake.ts'
import { confirmReply, startReply } from './messages.ts'

/** What a device that typed a code has got. */
export type Paired = { type: 'ticket'; ticket: string } | { type: 'refused'; code: PairingCode }

/**
 * Shows a connected member that this device was told its code, and gets a ticket for `device`.
 *
 * @throws {InvalidMessageError} where who answers does not know the code itself
 */
export async function pair(
  transport: Transport,
  peerId: string,
  { code, device }: { code: string; device: string },
  { signal }: { signal: AbortSignal }
): Promise<Paired> {
  const stream = await transport.newStream(peerId, [PAIRING_PROTOCOL], { signal })
  const messages = new JsonStream(stream, { maxBytes: MAX_PAIRING_MESSAGE_BYTES })
  const options = { timeoutMs: REQUEST_TIMEOUT_MS, signal }
  const side = new JoinerSide(code, { joiner: transport.peerId, member: peerId }, device)
  try {
    const paired = await run(messages, side, options)
    await messages.close()
    return paired
  } catch (error) {
    messages.abort(error as Error)
    throw error
  }
}

async function run(messages: JsonStream, side: JoinerSide, options: ReadOptions): Promise<Paired> {
  await messages.send({ type: 'start', ...side.start })
  const reply = await messages.read(startReply, options)
  if (reply.type === 'refused') return reply
  const proof = side.answered(reply.share)
  await messages.send({ type: 'confirm', tag: proof.tag })
  const end = await messages.read(confirmReply, options)
  if (end.type === 'refused') return end
  if (!proof.isShownBy(end.tag)) throw new InvalidMessageError('who answers does not know the code')
  return { type: 'ticket', ticket: proof.open(end) }
}
