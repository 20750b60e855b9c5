import type { LoadOptions } from '../api.ts'
import { begin, type Components, type HttpContext } from './request.ts'

/**
 * Has a model loaded, until the client goes away. It is let in as an answer is, in a place that it takes from none.
 *
 * @throws what the node refuses it with
 */
export async function loadFor(
  context: HttpContext,
  components: Components,
  { model, ...options }: LoadOptions & { model?: string }
): Promise<void> {
  const { requestId, aborted, over } = begin(context, components, { isLoad: true })
  try {
    await components.node.load(model, { ...options, signal: aborted, requestId })
  } finally {
    over()
  }
}
