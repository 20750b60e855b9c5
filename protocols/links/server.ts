import type { z } from 'zod'
import { REQUEST_TIMEOUT_MS } from '../constants.ts'
import { LimitExceededError, NotUnderstoodError } from '../errors.ts'
import { JsonStream } from '../json-stream.ts'
import type { Transport } from '../transport.ts'
import { type Burst, rateOfLargest, sendBurst, timeBurst } from './burst.ts'
import {
  GLANCE_PAUSE_MS,
  GLANCE_TURN,
  GLANCES_PAUSE_MS,
  LINK_ECHOES,
  MAX_GLANCE_BYTES,
  MAX_LINK_BYTES_PER_STREAM,
  MAX_LINK_STREAMS
} from './constants.ts'
import type { LinkHandlers } from './index.ts'
import { linkRequest } from './messages.ts'
import type { MeasuringTurn } from './turn.ts'

type LinkRequest = z.output<typeof linkRequest>

/** Takes part in the measurements of peers, one at a time. */
export async function serveLinks(
  transport: Transport,
  turn: MeasuringTurn,
  { timeoutMs, handlers }: { timeoutMs: number; handlers: LinkHandlers }
): Promise<{ stop(): Promise<void> }> {
  /** The peer served last waits as long as that took, so that one alone cannot keep this node from measuring. */
  let served = { peerId: '', untilMs: 0 }
  const glances = new GlancePauses()

  const serve = async (messages: JsonStream, peerId: string, progress: { come(): void }): Promise<void> => {
    const startMs = performance.now()
    const isItsTurn = () =>
      !turn.measuring &&
      !turn.isWith(peerId) &&
      (served.peerId !== peerId || performance.now() >= served.untilMs)
    let first: LinkRequest | undefined
    if (turn.interrupted && isItsTurn()) first = await nextRequest(messages)
    const isGlance = first?.type === 'echo' && first.glance === true && glances.begin(peerId)
    if (!isItsTurn() || (turn.interrupted && !isGlance)) {
      await messages.send({ type: 'busy' })
      return await messages.close()
    }
    try {
      await turn.take(
        peerId,
        async progressed => {
          progress.come = progressed
          await turn.during(messages, AbortSignal.timeout(timeoutMs), () =>
            reply({ messages, peerId, turn, handlers }, first)
          )
        },
        isGlance ? GLANCE_TURN : undefined
      )
    } finally {
      served = { peerId, untilMs: 2 * performance.now() - startMs }
    }
  }

  const stop = await transport.handle(
    transport.protocols.links,
    (stream, peerId) => {
      const progress = { come() {} }
      const onBytes = () => {
        transport.touch(peerId)
        progress.come()
      }
      const messages = new JsonStream(stream, { onBytes })
      serve(messages, peerId, progress).catch((error: Error) => messages.abort(error))
    },
    { maxInboundStreams: MAX_LINK_STREAMS }
  )
  return { stop }
}

interface Served {
  messages: JsonStream
  peerId: string
  turn: MeasuringTurn
  handlers: LinkHandlers
}

/** Ends with the stream, by its end or by the deadline. */
async function reply(served: Served, first: LinkRequest | undefined): Promise<void> {
  const { peerId, handlers } = served
  const watch = handlers.watchStarvation?.()
  const taken: (Burst & { size: number })[] = []
  try {
    await replyUntilEnd(served, { first, taken, isStarved: options => watch?.isStarved(options) ?? false })
  } finally {
    const rate = rateOfLargest(taken)
    if (rate !== undefined) handlers.onTaken?.(peerId, { ...rate, isStarved: watch?.isStarved() ?? false })
    watch?.stop()
  }
}

async function replyUntilEnd(
  { messages, turn }: Served,
  {
    first,
    taken,
    isStarved
  }: {
    first: LinkRequest | undefined
    taken: (Burst & { size: number })[]
    isStarved: (options: { processors: boolean }) => boolean
  }
): Promise<never> {
  let echoes = 0
  let spent = 0
  let isGlance = false
  for (let wanted = first ?? (await nextRequest(messages)); ; wanted = await nextRequest(messages)) {
    if (wanted.type === 'echo') {
      if (++echoes > LINK_ECHOES) throw new LimitExceededError('echoes that do not end')
      if (echoes === 1) isGlance = wanted.glance === true
      await messages.send({ type: 'echo', ...(isStarved({ processors: !isGlance }) && { starved: true }) })
      continue
    }
    if (turn.interrupted && !isGlance) throw new Error('tokens flow')
    spent += wanted.bytes
    const most = isGlance ? MAX_GLANCE_BYTES : MAX_LINK_BYTES_PER_STREAM
    if (spent > most) throw new LimitExceededError('a measurement that does not end')
    if (wanted.type === 'give') await sendBurst(messages, wanted.bytes)
    else {
      const burst = await timeBurst(messages, wanted.bytes)
      // Bursts of a glance are too small to count as a probe, which takes the place of what was measured well.
      if (!isGlance) taken.push({ ...burst, size: wanted.bytes })
      await messages.send({ type: 'took', ...burst })
    }
  }
}

async function nextRequest(messages: JsonStream): Promise<LinkRequest> {
  return await messages.read(linkRequest, { timeoutMs: REQUEST_TIMEOUT_MS }).catch(async error => {
    if (error instanceof NotUnderstoodError) await messages.send({ type: 'refused', reason: error.message })
    throw error
  })
}

/** Keeps peers from holding up tokens with one glance after another. */
class GlancePauses {
  readonly #lastMs = new Map<string, number>()

  /** @returns false where it is too early for one of this peer */
  begin(peerId: string): boolean {
    const nowMs = performance.now()
    for (const [other, atMs] of this.#lastMs) if (nowMs - atMs >= GLANCE_PAUSE_MS) this.#lastMs.delete(other)
    const lastMs = Math.max(Number.NEGATIVE_INFINITY, ...this.#lastMs.values())
    if (this.#lastMs.has(peerId) || nowMs - lastMs < GLANCES_PAUSE_MS) return false
    this.#lastMs.set(peerId, nowMs)
    return true
  }
}
