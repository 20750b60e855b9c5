import * as z from 'zod'
import type { EmbedRequest, EmbedResult } from '../api.ts'
import { askedBy, auditedVectors } from './audit.ts'
import { begin, type Components, type HttpContext } from './request.ts'
import { textStream } from './text-stream.ts'

/** What doors to embeddings have alike: their inputs, and one request to the node. */

export const MAX_INPUTS = 2048
export const MAX_INPUT_TOKENS = 1 << 20

/** A text, or as many as a request may have. */
export const texts = z.union([z.string(), z.array(z.string()).min(1).max(MAX_INPUTS)])

export const textInput = (text: string): EmbedRequest['inputs'][number] => ({ kind: 'raw', text })

/**
 * Sends an answer's JSON piece by piece, as fast as the client takes it: one with all vectors that a request may have is
 * hundreds of megabytes, and would hold up everybody while it is written.
 */
export function vectorsBody(
  context: HttpContext,
  pieces: Iterable<string>,
  headers: Record<string, string>
): Response {
  const parts = async function* () {
    for (const piece of pieces) {
      yield piece
      await new Promise(resolve => setImmediate(resolve))
    }
  }
  return textStream(parts(), {
    contentType: 'application/json',
    headers,
    onEnd: () => {},
    drop: () => context.env.outgoing.destroy()
  })
}

/** Asks the node for vectors, until the client goes away; the headers say how they were made. */
export async function embedFor(
  context: HttpContext,
  components: Components,
  request: EmbedRequest
): Promise<{ result: EmbedResult; headers: Record<string, string> }> {
  const { node, audit } = components
  const { holder, requestId, aborted, over } = begin(context, components)
  try {
    const plain = node.embed(
      { ...request, ...(holder && { priority: holder.priority }) },
      { signal: aborted, requestId }
    )
    const about = { ...askedBy(context, node, holder), requestId, model: request.model }
    const { signal } = context.req.raw
    const result = await (audit === undefined ? plain : auditedVectors(audit, plain, about, signal))
    const pooling = `${result.pooling};by=${result.isPoolingKnown ? 'model' : 'default'}`
    return { result, headers: { 'x-edgeshard-pooling': pooling } }
  } finally {
    over()
  }
}
