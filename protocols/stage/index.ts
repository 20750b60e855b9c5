/**
 * The stage protocol: hidden states and tokens between the stages of a request, over one long-lived stream for each
 * ordered pair of peers, opened with the first frame and used by all sessions (0.2 ms a hop; a new stream for every
 * frame costs 0.7 ms). Frames of one sender arrive in the order they were sent.
 *
 * @example
 * ```ts
 * const streams = await createStageStreams(host, {
 *   allocate: (peerId, header) => stages.get(header.rows[0].sessionId)?.memoryFor(header) ?? null,
 *   onFrame: (peerId, frame) => stages.get(frame.rows[0].sessionId)?.run(frame),
 *   onLost: (peerId, reason) => sessions.stagesLost(peerId, reason)
 * })
 * await streams.send(next, { type: 'hidden', rows: [{ sessionId, position }], tokens: 1, hiddenSize: 64, sample: true, timings, hidden })
 * ```
 */
import type { Transport } from '../transport.ts'
import { Outbound } from './client.ts'
import type { StageFrame } from './messages.ts'
import { type StageCounters, type StageHandlers, serveStages } from './server.ts'

export { STAGE_CODES, type StageCode } from './codes.ts'
export type { FrameHeader, FrameToken } from './frame.ts'
export type { StageFrame } from './messages.ts'
export type { StageCounters, StageHandlers } from './server.ts'

export interface StageStreams {
  /**
   * Sends a frame; resolves when its memory may be used again. `signal` gives up waiting for a turn; a frame under
   * way is finished.
   *
   * @throws {PeerLostError} when the peer cannot be reached or the stream breaks, {LimitExceededError} when too much
   * is queued for it.
   */
  send(peerId: string, frame: StageFrame, options?: { signal?: AbortSignal }): Promise<void>
  /** When a frame last came or went (performance.now()); -Infinity before the first. */
  readonly lastFrameAtMs: number
  /** Totals since the start; a live object. */
  readonly counters: Readonly<StageCounters>
  stop(): Promise<void>
}

export async function createStageStreams(
  transport: Transport,
  handlers: StageHandlers
): Promise<StageStreams> {
  const counters: StageCounters = {
    framesSent: 0,
    framesReceived: 0,
    hiddenBytesSent: 0,
    hiddenBytesReceived: 0
  }
  const outbound = new Map<string, Outbound>()
  let stopped = false
  let lastSentAtMs = Number.NEGATIVE_INFINITY

  const lost = (peerId: string, reason: string): void => {
    if (!stopped) handlers.onLost(peerId, reason)
  }
  const server = await serveStages(transport, handlers, { counters, lost })

  return {
    counters,
    get lastFrameAtMs() {
      return Math.max(lastSentAtMs, server.lastFrameAtMs)
    },
    send(peerId, frame, options = {}) {
      let stream = outbound.get(peerId)
      if (stream === undefined) {
        stream = new Outbound(transport, peerId, reason => {
          outbound.delete(peerId)
          lost(peerId, reason)
        })
        outbound.set(peerId, stream)
      }
      lastSentAtMs = performance.now()
      return stream.send(frame, options.signal, counters)
    },
    async stop() {
      stopped = true
      const closed = Promise.all([...outbound.values()].map(stream => stream.close()))
      await Promise.all([server.stop(), closed])
    }
  }
}
