import * as z from 'zod'
import type { EmbedRequest, EmbedResult } from '../api.ts'
import { begin, type Components, type HttpContext } from './request.ts'

/** What doors to embeddings have alike: their inputs, and one request to the node. */

export const MAX_INPUTS = 2048
export const MAX_INPUT_TOKENS = 1 << 20

/** A text, or as many as a request may have. */
export const texts = z.union([z.string(), z.array(z.string()).min(1).max(MAX_INPUTS)])

export const textInput = (text: string): EmbedRequest['inputs'][number] => ({ kind: 'raw', text })

/** Asks the node for vectors, until the client goes away; the header says how they were made. */
export async function embedFor(
  context: HttpContext,
  components: Components,
  request: EmbedRequest
): Promise<EmbedResult> {
  const { signal } = context.req.raw
  const { requestId, aborted, over } = begin(context, components)
  signal.addEventListener('abort', over, { once: true })
  try {
    const result = await components.node.embed(request, { signal: aborted, requestId })
    context.header(
      'x-edgeshard-pooling',
      `${result.pooling};by=${result.isPoolingKnown ? 'model' : 'default'}`
    )
    return result
  } finally {
    over()
  }
}
