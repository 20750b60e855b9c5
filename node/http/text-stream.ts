import { logger, originOf } from '../../models/log.ts'
import { CLIENT_STALL_MS, HEARTBEAT_MS } from './constants.ts'

const log = logger('edgeshard:http')

export interface TextStreamOptions {
  contentType: string
  /** What keeps a silent connection alive; absent: nothing is sent. */
  heartbeat?: string
  headers?: Record<string, string>
  /** Called however the stream ends: all sent, client gone, or client no longer reading. */
  onEnd: () => void
  /** Closes the connection under a client that no longer reads. */
  drop: () => void
}

/**
 * A response whose body is what `parts` yields, made only as fast as the client takes it: never more than one part
 * waits here. A client that takes nothing for CLIENT_STALL_MS is dropped.
 */
export function textStream(parts: AsyncGenerator<string>, options: TextStreamOptions): Response {
  const encoder = new TextEncoder()
  let pending: Promise<IteratorResult<string>> | null = null
  let stalled: NodeJS.Timeout | undefined
  const end = () => {
    clearTimeout(stalled)
    options.onEnd()
    // Whatever fails there was told to whoever read the parts.
    void parts.return(undefined).catch(() => undefined)
  }
  const giveUp = () => {
    end()
    options.drop()
  }
  const body = new ReadableStream<Uint8Array>(
    {
      pull: async controller => {
        clearTimeout(stalled)
        try {
          pending ??= parts.next()
          const next = await withHeartbeat(pending, options.heartbeat)
          if (next === 'silent') {
            controller.enqueue(encoder.encode(options.heartbeat))
          } else {
            pending = null
            if (next.done === true) {
              controller.close()
              end()
              return
            }
            controller.enqueue(encoder.encode(next.value))
          }
          stalled = setTimeout(giveUp, CLIENT_STALL_MS)
          stalled.unref()
        } catch (error) {
          log.trace('a body ended early; its client is dropped', () => ({ at: originOf(error) }))
          giveUp()
        }
      },
      cancel: end
    },
    { highWaterMark: 0 }
  )
  return new Response(body, {
    headers: {
      'content-type': options.contentType,
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no',
      ...options.headers
    }
  })
}

async function withHeartbeat<T>(pending: Promise<T>, heartbeat: string | undefined): Promise<T | 'silent'> {
  if (heartbeat === undefined) return await pending
  let timer: NodeJS.Timeout | undefined
  const silence = new Promise<'silent'>(resolve => {
    timer = setTimeout(resolve, HEARTBEAT_MS, 'silent')
  })
  try {
    return await Promise.race([pending, silence])
  } finally {
    clearTimeout(timer)
  }
}
