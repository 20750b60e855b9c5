import type { Stream } from '@libp2p/interface'
import { MAX_STAGE_STREAMS, STAGE_PROTOCOL } from '../constants.ts'
import type { Transport } from '../transport.ts'
import { decodeFrameError, decodeTokens, type FrameHeader, type FrameToken } from './frame.ts'
import { FrameReader } from './frame-reader.ts'
import { Outbound } from './outbound.ts'

/**
 * A header and what it announces: hidden states as float32, row-major (tokens, hidden), or a token of each session. That
 * they are finite is the handler's to check: it knows whose they are.
 */
export type StageFrame = Omit<FrameHeader, 'type'> &
  (
    | { type: 'hidden'; hidden: Float32Array<SharedArrayBuffer> }
    | { type: 'token'; drawn: FrameToken[] }
    | { type: 'error'; code: string; message: string }
  )

export interface StageHandlers {
  /**
   * Memory for hidden states that `peerId` announces: exactly tokens x hiddenSize values.
   * Null refuses the frame (unknown session, another hidden size, not this peer's session): its bytes are skipped.
   */
  allocate(peerId: string, header: FrameHeader): Float32Array<SharedArrayBuffer> | null
  /**
   * A frame from `peerId`, whose id the connection has authenticated; whether the session is this peer's to feed is
   * the handler's to check. A returned promise that stays pending holds the sender back; one that rejects, or a
   * throw, ends the stream.
   */
  onFrame(peerId: string, frame: StageFrame): void | Promise<void>
  /** Large hidden states took so long to arrive, from their first to their last piece: says how fast the link is. */
  onTransfer?(peerId: string, bytes: number, ms: number): void
  /** The stream to or from the peer broke, or the peer broke the protocol: its sessions cannot go on. */
  onLost(peerId: string, reason: string): void
}

export interface StageCounters {
  framesSent: number
  framesReceived: number
  hiddenBytesSent: number
  hiddenBytesReceived: number
}

export interface StageLinks {
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

export async function createStageLinks(transport: Transport, handlers: StageHandlers): Promise<StageLinks> {
  const counters: StageCounters = {
    framesSent: 0,
    framesReceived: 0,
    hiddenBytesSent: 0,
    hiddenBytesReceived: 0
  }
  const outbound = new Map<string, Outbound>()
  const inbound = new Set<Stream>()
  let stopped = false
  let lastFrameAtMs = Number.NEGATIVE_INFINITY

  const lost = (peerId: string, reason: string): void => {
    if (!stopped) handlers.onLost(peerId, reason)
  }

  const receive = (stream: Stream, peerId: string): void => {
    new FrameReader(stream, {
      allocate: header => handlers.allocate(peerId, header),
      onFrame: (header, payload, hidden) => {
        counters.framesReceived++
        lastFrameAtMs = performance.now()
        counters.hiddenBytesReceived += hidden?.byteLength ?? 0
        return handlers.onFrame(peerId, toFrame(header, payload, hidden))
      },
      onBytes: () => transport.touch(peerId),
      onTransfer: (bytes, ms) => handlers.onTransfer?.(peerId, bytes, ms)
    })
    inbound.add(stream)
    stream.addEventListener('close', event => {
      inbound.delete(stream)
      lost(peerId, event.error?.message ?? 'the peer closed its stream')
    })
    // The sender opens a new stream when it has something to say; half-open ones serve nobody.
    stream.addEventListener('remoteCloseWrite', () => void stream.close().catch(() => {}))
  }

  const unhandle = await transport.handle(STAGE_PROTOCOL, receive, { maxInboundStreams: MAX_STAGE_STREAMS })

  return {
    counters,
    get lastFrameAtMs() {
      return lastFrameAtMs
    },
    send(peerId, frame, options = {}) {
      let link = outbound.get(peerId)
      if (link === undefined) {
        link = new Outbound(transport, peerId, reason => {
          outbound.delete(peerId)
          lost(peerId, reason)
        })
        outbound.set(peerId, link)
      }
      lastFrameAtMs = performance.now()
      return link.send(frame, options.signal, counters)
    },
    async stop() {
      stopped = true
      await unhandle()
      await Promise.all([...outbound.values()].map(link => link.close()))
      for (const stream of inbound) stream.abort(new Error('the node stops'))
    }
  }
}

function toFrame(
  header: FrameHeader,
  payload: Uint8Array,
  hidden: Float32Array<SharedArrayBuffer> | null
): StageFrame {
  const { type, ...head } = header
  switch (type) {
    case 'hidden':
      return { ...head, type, hidden: hidden! }
    case 'token':
      return { ...head, type, drawn: decodeTokens(payload, head.rows.length) }
    case 'error':
      return { ...head, type, ...decodeFrameError(payload) }
  }
}
