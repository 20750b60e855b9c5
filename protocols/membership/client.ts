import { REQUEST_TIMEOUT_MS } from '../constants.ts'
import { JsonStream } from '../json-stream.ts'
import type { Transport } from '../transport.ts'
import {
  type Admitted,
  helloReply,
  type Redeem,
  type Refusal,
  type RotateReply,
  redeemReply,
  rotateReply
} from './messages.ts'
import { readPages, sendPages } from './pages.ts'
import type { MembershipHandlers } from './server.ts'
import type { Rotation, Statement } from './statement.ts'

/** How a meeting ended: the two speak all protocols, or one of them refuses the other. */
export type Meeting =
  | { type: 'met'; epoch: number }
  | { type: 'refused'; by: 'self' | 'peer'; refusal: Refusal }

/** What a device that had a ticket has got. */
export type Admission =
  | ({ type: 'admitted'; statements: Statement[] } & Admitted)
  | { type: 'refused'; refusal: Refusal }

/** Proves this node to a peer, judges the peer, and makes the sets of both the same. */
export async function meet(
  transport: Transport,
  peerId: string,
  handlers: Pick<MembershipHandlers, 'hello' | 'judge' | 'statements' | 'take' | 'met'>
): Promise<Meeting> {
  return await onStream(transport, peerId, async messages => {
    await messages.send({ type: 'hello', ...handlers.hello() })
    const reply = await messages.read(helloReply, { timeoutMs: REQUEST_TIMEOUT_MS })
    if (reply.type === 'refused') return { type: 'refused', by: 'peer', refusal: reply }
    const refusal = handlers.judge(peerId, reply)
    if (refusal !== null) {
      await messages.send({ type: 'refused', ...refusal })
      return { type: 'refused', by: 'self', refusal }
    }
    if (handlers.hello().digest === reply.digest) await messages.send({ type: 'same' })
    else {
      await sendPages(messages, handlers.statements())
      handlers.take(peerId, await readPages(messages))
    }
    handlers.met(peerId, reply)
    return { type: 'met', epoch: reply.epoch }
  })
}

/** Shows a ticket's code to the device that made it. */
export async function redeem(transport: Transport, peerId: string, ask: Redeem): Promise<Admission> {
  return await onStream(transport, peerId, async messages => {
    await messages.send({ type: 'redeem', ...ask })
    const reply = await messages.read(redeemReply, { timeoutMs: REQUEST_TIMEOUT_MS })
    if (reply.type === 'refused') return { type: 'refused', refusal: reply }
    return { ...reply, statements: await readPages(messages) }
  })
}

/** Tells one peer of a new secret; resolves to what the peer says to it. */
export async function tellRotation(
  transport: Transport,
  peerId: string,
  rotation: Rotation
): Promise<RotateReply> {
  return await onStream(transport, peerId, async messages => {
    await messages.send({ type: 'rotate', ...rotation })
    return await messages.read(rotateReply, { timeoutMs: REQUEST_TIMEOUT_MS })
  })
}

async function onStream<T>(
  transport: Transport,
  peerId: string,
  speak: (messages: JsonStream) => Promise<T>
): Promise<T> {
  const stream = await transport.newStream(peerId, transport.protocols.membership)
  const messages = new JsonStream(stream, { onBytes: () => transport.touch(peerId) })
  try {
    const outcome = await speak(messages)
    await messages.close()
    return outcome
  } catch (error) {
    messages.abort(error as Error)
    throw error
  }
}
