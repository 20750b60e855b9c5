import { REQUEST_TIMEOUT_MS } from '../constants.ts'
import { NotUnderstoodError } from '../errors.ts'
import { JsonStream } from '../json-stream.ts'
import type { Transport } from '../transport.ts'
import { MAX_MEMBERSHIP_STREAMS } from './constants.ts'
import {
  type Admitted,
  type Hello,
  helloEnd,
  openingMessage,
  type Redeem,
  type Refusal,
  type RotateReply
} from './messages.ts'
import { readPages, sendPages } from './pages.ts'
import { lineOf, type Rotation, type Statement } from './statement.ts'

/** What a node knows and decides of the membership; the protocol only carries it. */
export interface MembershipHandlers {
  /** What this node proves itself with. */
  hello(): Hello
  /** Judges a peer by its proof and by what is known; null: it is in, and what it opens from now on is served. */
  judge(peerId: string, hello: Hello): Refusal | null
  /** The whole set, each signer's own admission before what it signed. */
  statements(): Statement[]
  /** Statements that a peer which is in has sent. */
  take(peerId: string, statements: Statement[]): void
  /** Both sides have judged: the two speak all protocols. */
  met(peerId: string, hello: Hello): void
  /** A peer refuses this node. */
  refused(peerId: string, refusal: Refusal): void
  /** A device shows a ticket. */
  redeem(peerId: string, ask: Redeem): Promise<Admitted | Refusal>
  /** A member announces a secret; `adopted` when this node has it now, or had it already. */
  rotate(peerId: string, rotation: Rotation): Promise<RotateReply>
}

/** Serves peers that meet this node, show it a ticket, or tell it a secret. */
export async function serveMembership(
  transport: Transport,
  handlers: MembershipHandlers
): Promise<{ stop(): Promise<void> }> {
  const reply = async (messages: JsonStream, peerId: string): Promise<void> => {
    const said = await messages.read(openingMessage, { timeoutMs: REQUEST_TIMEOUT_MS }).catch(async error => {
      if (error instanceof NotUnderstoodError)
        await messages.send({ type: 'refused', code: 'internal', reason: error.message })
      throw error
    })
    if (said.type === 'hello') await answerHello(messages, peerId, said, handlers)
    else if (said.type === 'redeem') await answerRedeem(messages, peerId, said, handlers)
    else {
      const { type: _, ...rotation } = said
      await messages.send(await handlers.rotate(peerId, rotation))
    }
    await messages.close()
  }
  const stop = await transport.handle(
    transport.protocols.membership,
    (stream, peerId) => {
      const messages = new JsonStream(stream, { onBytes: () => transport.touch(peerId) })
      reply(messages, peerId).catch((error: Error) => messages.abort(error))
    },
    { maxInboundStreams: MAX_MEMBERSHIP_STREAMS }
  )
  return { stop }
}

async function answerHello(
  messages: JsonStream,
  peerId: string,
  hello: Hello,
  handlers: MembershipHandlers
): Promise<void> {
  const refusal = handlers.judge(peerId, hello)
  if (refusal !== null) return await messages.send({ type: 'refused', ...refusal })
  await messages.send({ type: 'hello', ...handlers.hello() })
  const end = await messages.read(helloEnd, { timeoutMs: REQUEST_TIMEOUT_MS })
  if (end.type === 'refused') return handlers.refused(peerId, end)
  handlers.met(peerId, hello)
  if (end.type === 'same') return
  const taken = await readPages(messages, end)
  handlers.take(peerId, taken)
  const known = new Set(taken.map(lineOf))
  await sendPages(
    messages,
    handlers.statements().filter(statement => !known.has(lineOf(statement)))
  )
}

async function answerRedeem(
  messages: JsonStream,
  peerId: string,
  { mesh, code }: Redeem,
  handlers: MembershipHandlers
): Promise<void> {
  const answer = await handlers.redeem(peerId, { mesh, code })
  if ('code' in answer) return await messages.send({ type: 'refused', ...answer })
  await messages.send({ type: 'admitted', ...answer })
  await sendPages(messages, handlers.statements())
}
