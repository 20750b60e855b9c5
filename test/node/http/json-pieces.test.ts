import { describe, expect, test } from 'vitest'
import { jsonPieces } from '../../../node/http/json-pieces.ts'
import { embedAnswer } from '../../../node/http/ollama/embed.ts'
import { embeddingsAnswer } from '../../../node/http/openai/embeddings.ts'

test.each([[[]], [[1]], [[[1, 2], { a: '"' }, null]]])('pieces of %j are together the JSON of all', items => {
  const fields = { object: 'list', 'odd "name"': 'é\n', left: undefined, none: null }
  const pieces = [...jsonPieces(fields, { name: 'data', items })]
  expect(JSON.parse(pieces.join(''))).toEqual({ ...JSON.parse(JSON.stringify(fields)), data: items })
  expect(pieces).toHaveLength(items.length + 2)
})

describe('an answer of many vectors has a piece for each', () => {
  const vectors = Array.from({ length: 300 }, (_, i) =>
    Float32Array.from({ length: 64 }, (_, j) => i + j / 7)
  )
  const result = { vectors, promptTokens: 9, pooling: 'mean' as const, isPoolingKnown: true, devices: [] }
  const answers: [name: string, pieces: () => Iterable<string>][] = [
    ['OpenAI’s', () => embeddingsAnswer(result, { model: 'm', format: 'float' })],
    ['OpenAI’s in base64', () => embeddingsAnswer(result, { model: 'm', format: 'base64' })],
    ['Ollama’s', () => embedAnswer('embed', result, { name: 'm', tookMs: 1 })]
  ]

  test.each(answers)('%s', (_, piecesOf) => {
    const pieces = [...piecesOf()]
    expect(pieces).toHaveLength(vectors.length + 2)
    // None is longer than its one vector can be.
    for (const piece of pieces) expect(piece.length).toBeLessThan(64 * 25 + 100)
    const { model, data, embeddings } = JSON.parse(pieces.join(''))
    expect([model, (data ?? embeddings).length]).toEqual(['m', 300])
  })
})
