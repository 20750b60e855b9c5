import { REQUEST_TIMEOUT_MS } from '../constants.ts'
import { JsonStream } from '../json-stream.ts'
import type { Transport } from '../transport.ts'
import type { PairingCode } from './codes.ts'
import { MAX_PAIRING_MESSAGE_BYTES, MAX_PAIRING_STREAMS, PAIRING_PROTOCOL } from './constants.ts'
import { type Channel, memberSide } from './handshake.ts'
import { confirmMessage, startMessage } from './messages.ts'

/** What the member decides; the protocol only carries it. */
export interface PairingHandlers {
  /** A device begins a run, whatever comes of it. */
  began(): void
  /** The code that is shown, the same object as long as it is; undefined where pairing is closed. */
  shown(): { readonly code: string } | undefined
  /** A device has shown another code than the one that it was asked for; `caller` is the peer id of its connection. */
  wrong(caller: string): void
  /** A device knows the code, which is used up with this call. Resolves to a ticket for it alone. */
  right(device: string, caller: string): Promise<string>
}

/** Serves devices that were told the code. `stop` resolves when those that were judged have heard it. */
export async function servePairing(
  transport: Transport,
  handlers: PairingHandlers
): Promise<{ stop(): Promise<void> }> {
  /** Last answers that are on their way. */
  const leaving = new Set<Promise<void>>()
  const leave = async (messages: JsonStream, answer: () => Promise<object>): Promise<void> => {
    const left = answer()
      .then(message => messages.send(message))
      .then(() => messages.close())
      .finally(() => leaving.delete(left))
    leaving.add(left)
    await left
  }
  const unhandle = await transport.handle(
    [PAIRING_PROTOCOL],
    (stream, peerId) => {
      const messages = new JsonStream(stream, { maxBytes: MAX_PAIRING_MESSAGE_BYTES })
      const channel = { joiner: peerId, member: transport.peerId }
      run(messages, channel, handlers, leave).catch((error: Error) => messages.abort(error))
    },
    { maxInboundStreams: MAX_PAIRING_STREAMS }
  )
  const stop = async () => {
    await unhandle()
    await Promise.allSettled(leaving)
  }
  return { stop }
}

type Leave = (messages: JsonStream, answer: () => Promise<object>) => Promise<void>

const refused = (code: PairingCode) => async () => ({ type: 'refused', code })

async function run(
  messages: JsonStream,
  channel: Channel,
  handlers: PairingHandlers,
  leave: Leave
): Promise<void> {
  const start = await messages.read(startMessage, { timeoutMs: REQUEST_TIMEOUT_MS })
  handlers.began()
  const shown = handlers.shown()
  if (shown === undefined) return await leave(messages, refused('closed'))
  const { share, proof } = memberSide(shown.code, channel, start)
  await messages.send({ type: 'share', share })
  const { tag } = await messages.read(confirmMessage, { timeoutMs: REQUEST_TIMEOUT_MS })
  // Nothing is awaited from here to the count: of runs side by side none is judged that comes after the last try.
  if (handlers.shown() !== shown) return await leave(messages, refused('closed'))
  if (!proof.isShownBy(tag)) {
    handlers.wrong(channel.joiner)
    return await leave(messages, refused('wrong-code'))
  }
  const ticket = handlers.right(start.device, channel.joiner)
  await leave(messages, async () => ({ type: 'ticket', tag: proof.tag, ...proof.seal(await ticket) }))
}
