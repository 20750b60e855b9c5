import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { perplexityOf } from '../fixtures/perplexity.ts'
import { encoded, importedModel } from '../fixtures/prepared.ts'
import { hasSharedData, sharedData } from '../fixtures/shared-data.ts'

/** llama.cpp's own figures on the same text by the same rule (context 256). */
const CASES = [
  { path: 'stories260k/hf', expected: 6.048 },
  { path: 'stories260k/gguf/stories260K-pad192-q8_0.gguf', expected: 6.061 },
  { path: 'stories260k/gguf/stories260K-pad192-q4_0.gguf', expected: 6.803 }
]

describe.skipIf(!hasSharedData)('perplexity on TinyStories', () => {
  it.each(CASES)("$path: within 0.5 % of llama.cpp's $expected", async ({ path, expected }) => {
    await using imported = await importedModel(path)
    const { store, model } = imported
    const text = await readFile(sharedData('text/tinystories-197k.txt'), 'utf8')
    const tokens = await encoded(`tinystories-${path}`, store, model, text)
    const perplexity = await perplexityOf(model.manifest, store.blobsDir, tokens)
    expect(Math.abs(perplexity / expected - 1), `perplexity ${perplexity}`).toBeLessThan(0.005)
  })
})
