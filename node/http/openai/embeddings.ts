import * as z from 'zod'
import type { EmbedRequest, EmbedResult } from '../../api.ts'
import { MAX_INPUT_TOKENS, MAX_INPUTS, textInput, texts } from '../embeddings.ts'
import { defined, meshOptions, modelOrDefault, parse, planFields } from '../fields.ts'
import { jsonPieces } from '../json-pieces.ts'
import { refuseUndone, type UndoneFields } from '../undone-fields.ts'
import { unknownFields } from '../unknown-fields.ts'

/** Of /v1/embeddings: what is asked, and the answer. */

const ids = z.array(z.int().min(0)).min(1).max(MAX_INPUT_TOKENS)
export const embeddingsSchema = z.object({
  model: modelOrDefault,
  input: z.union([texts, ids, z.array(ids).min(1).max(MAX_INPUTS)], 'a text, token ids, or a list of either'),
  encoding_format: z.enum(['float', 'base64']).nullish(),
  dimensions: z
    .int()
    .min(1)
    .max(1 << 16)
    .nullish(),
  user: z.string().nullish(),
  ...planFields,
  exact: z.boolean().nullish()
})
const KNOWN = new Set(Object.keys(embeddingsSchema.shape))
/** What other servers read, and this one does not. */
const UNDONE: UndoneFields = {
  truncate_prompt_tokens: value => value === -1,
  input_type: () => false,
  task: () => false,
  prompt_name: () => false,
  late_chunking: value => value === false,
  normalize: value => value === true,
  embd_normalize: value => value === 2,
  pooling_type: () => false
}

export interface AskedEmbeddings {
  request: EmbedRequest
  format: 'float' | 'base64'
  ignored: readonly string[]
}

/** @throws {RequestError} naming the first field that is wrong, misspelt or not done */
export function parseEmbeddings(body: unknown): AskedEmbeddings {
  const { model, input, encoding_format, dimensions, ...mesh } = parse(embeddingsSchema, body)
  refuseUndone(body, UNDONE)
  const ignored = unknownFields(body, new Set([...KNOWN, ...Object.keys(UNDONE)]))
  const request = { inputs: inputsOf(input), ...defined({ model, dimensions }), ...meshOptions(mesh) }
  return { request, format: encoding_format ?? 'float', ignored }
}

/** The answer's JSON, a vector a piece. */
export function embeddingsAnswer(
  { vectors, promptTokens }: EmbedResult,
  { model, format }: { model: string; format: AskedEmbeddings['format'] }
): Generator<string> {
  const usage = { prompt_tokens: promptTokens, total_tokens: promptTokens }
  const items = function* () {
    for (const [index, vector] of vectors.entries())
      yield { object: 'embedding', index, embedding: encoded(vector, format) }
  }
  return jsonPieces({ object: 'list', model, usage }, { name: 'data', items: items() })
}

function inputsOf(input: z.infer<typeof embeddingsSchema>['input']): EmbedRequest['inputs'] {
  if (typeof input === 'string') return [textInput(input)]
  const isOne = typeof input[0] === 'number'
  const each = (isOne ? [input] : input) as (string | number[])[]
  return each.map(one => (typeof one === 'string' ? textInput(one) : { kind: 'ids', ids: one }))
}

/** Base64 is that of float32, little endian as every host that runs this. */
function encoded(vector: Float32Array, format: AskedEmbeddings['format']): number[] | string {
  if (format === 'float') return [...vector]
  return Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString('base64')
}
