import { Admission } from './admission.ts'
import { MAX_EVENT_CLIENTS } from './constants.ts'
import { EventFeed } from './event-feed.ts'
import type { Components, HttpContext } from './request.ts'
import { textStream } from './text-stream.ts'

/** GET /api/events: what changes in the mesh as server-sent events (node/mesh-events.ts), until the client leaves. */
export function followMesh({ node, closing }: Components): (context: HttpContext) => Response {
  const followers = new Admission(MAX_EVENT_CLIENTS, 'followers of /api/events')
  const feed = new EventFeed(node)
  return context => {
    closing.admitEndless()
    const leave = followers.enter()
    const abort = new AbortController()
    const over = closing.beginEndless(() => abort.abort())
    return textStream(feed.follow(abort.signal, context.req.header('last-event-id')), {
      contentType: 'text/event-stream',
      heartbeat: ': unchanged\n\n',
      onEnd: () => {
        abort.abort()
        over()
        leave()
      },
      drop: () => context.env.outgoing.destroy()
    })
  }
}
