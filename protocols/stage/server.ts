import type { Stream } from '@libp2p/interface'
import { logger } from '../../models/log.ts'
import type { Transport } from '../transport.ts'
import { MAX_STAGE_STREAMS } from './constants.ts'
import type { FrameHeader } from './frame.ts'
import { FrameReader, type FrameSink } from './frame-reader.ts'
import { decodeFrame, type StageFrame } from './messages.ts'

const log = logger('edgeshard:stage')

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

/** What a node counts of its stage streams. */
export interface StageCounters {
  framesSent: number
  framesReceived: number
  hiddenBytesSent: number
  hiddenBytesReceived: number
}

/** Receives the frames of every peer that opens a stream; `lost` is called when such a stream ends. */
export async function serveStages(
  transport: Transport,
  handlers: StageHandlers,
  { counters, lost }: { counters: StageCounters; lost: (peerId: string, reason: string) => void }
): Promise<{ readonly lastFrameAtMs: number; stop(): Promise<void> }> {
  const inbound = new Set<Stream>()
  const waiting = new Set<FrameReader>()
  let lastFrameAtMs = Number.NEGATIVE_INFINITY

  const receive = (stream: Stream, peerId: string): void => {
    const sink: FrameSink = {
      allocate: header => handlers.allocate(peerId, header),
      onFrame: (header, payload, hidden) => {
        counters.framesReceived++
        lastFrameAtMs = performance.now()
        counters.hiddenBytesReceived += hidden?.byteLength ?? 0
        return handlers.onFrame(peerId, decodeFrame(header, payload, hidden))
      },
      onBytes: () => transport.touch(peerId),
      onTransfer: (bytes, ms) => handlers.onTransfer?.(peerId, bytes, ms)
    }
    new FrameReader(stream, sink, waiting)
    inbound.add(stream)
    stream.addEventListener('close', event => {
      inbound.delete(stream)
      lost(peerId, event.error?.message ?? 'the peer closed its stream')
    })
    // The sender opens a new stream when it has something to say; half-open ones are of no use.
    stream.addEventListener('remoteCloseWrite', () => {
      void stream
        .close()
        .catch(log.passOver('closing a half-open stream failed; nothing is sent on it', { peerId }))
    })
  }

  const unhandle = await transport.handle(transport.protocols.stage, receive, {
    maxInboundStreams: MAX_STAGE_STREAMS
  })
  return {
    get lastFrameAtMs() {
      return lastFrameAtMs
    },
    async stop() {
      await unhandle()
      for (const stream of inbound) stream.abort(new Error('the node stops'))
    }
  }
}
