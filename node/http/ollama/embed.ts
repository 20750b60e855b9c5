import * as z from 'zod'
import type { EmbedRequest, EmbedResult } from '../../api.ts'
import { textInput, texts } from '../embeddings.ts'
import { defined, jsonObject, meshOptions, parse, planFields, text } from '../fields.ts'
import { jsonPieces } from '../json-pieces.ts'
import { fieldOf, unknownFields } from '../unknown-fields.ts'
import { shared } from './schema.ts'

/** Of Ollama's /api/embed and the older /api/embeddings: what is asked, and the answers. */

const common = {
  model: shared.model,
  keep_alive: shared.keep_alive,
  options: jsonObject.nullish(),
  ...planFields,
  exact: z.boolean().nullish()
}
export const ollamaEmbedSchema = z.object({
  ...common,
  input: texts,
  truncate: z.boolean().nullish(),
  dimensions: z
    .int()
    .min(0)
    .max(1 << 16)
    .nullish()
})
export const ollamaEmbeddingsSchema = z.object({ ...common, prompt: text })

const KNOWN = {
  embed: new Set(Object.keys(ollamaEmbedSchema.shape)),
  embeddings: new Set(Object.keys(ollamaEmbeddingsSchema.shape))
}

export interface OllamaEmbed {
  request: EmbedRequest
  /** As the client has called it. */
  name: string
  ignored: readonly string[]
}

/** @throws {RequestError} naming the first field that is wrong or misspelt */
export function parseEmbed(kind: 'embed' | 'embeddings', body: unknown): OllamaEmbed {
  const asked = kind === 'embed' ? embedOf(body) : embeddingsOf(body)
  const { model, keep_alive, ...mesh } = asked.parsed
  const ignored = [
    ...unknownFields(body, KNOWN[kind]),
    // Options are about drawing tokens, or about where a model runs, which is for the mesh to say.
    ...Object.keys(fieldOf(body, 'options') ?? {}).map(name => `options.${name}`)
  ]
  const optional = { keepAliveMs: keep_alive, dimensions: asked.dimensions || undefined }
  const { inputs, truncate } = asked
  const request = { model, inputs, truncate, ...defined(optional), ...meshOptions(mesh) }
  return { request, name: (body as { model: string }).model, ignored }
}

function embedOf(body: unknown) {
  const { input, truncate, dimensions, ...parsed } = parse(ollamaEmbedSchema, body)
  return { parsed, inputs: [input].flat().map(textInput), truncate: truncate !== false, dimensions }
}

function embeddingsOf(body: unknown) {
  const { prompt, ...parsed } = parse(ollamaEmbeddingsSchema, body)
  return { parsed, inputs: [textInput(prompt)], truncate: true, dimensions: undefined }
}

/** The answer's JSON, a vector a piece. */
export function embedAnswer(
  kind: 'embed' | 'embeddings',
  { vectors, promptTokens }: EmbedResult,
  { name, tookMs }: { name: string; tookMs: number }
): Iterable<string> {
  if (kind === 'embeddings') return [JSON.stringify({ embedding: [...(vectors[0] ?? [])] })]
  const total_duration = Math.round(1e6 * tookMs)
  const figures = { total_duration, load_duration: 0, prompt_eval_count: promptTokens }
  const items = function* () {
    for (const vector of vectors) yield [...vector]
  }
  return jsonPieces({ model: name, ...figures }, { name: 'embeddings', items: items() })
}
