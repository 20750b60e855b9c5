import { z } from 'zod'
import { CheckpointError } from '../errors.ts'

const tokenId = z.int().min(0)
const AddedTokens = z.array(z.looseObject({ id: tokenId, content: z.string() })).max(2 ** 20)
const Vocabulary = z.union([
  z.record(z.string(), tokenId),
  // Unigram: [token, score] in the order of the ids.
  z.array(z.tuple([z.string(), z.number()]))
])

/**
 * Checks that the base vocabulary of a tokenizer.json has only ids that the model's embedding has. One that is smaller
 * than the embedding is common: tables are padded. Added tokens beyond it are common, too, and never written.
 *
 * @throws {CheckpointError} naming the first token outside.
 */
export function checkVocabulary(tokenizer: Record<string, unknown>, vocabSize: number, file: string): void {
  const model = z
    .looseObject({ vocab: Vocabulary, type: z.unknown().optional(), merges: z.unknown().optional() })
    .safeParse(tokenizer.model)
  if (!model.success) throw new CheckpointError(file, 'has no vocabulary (model.vocab)')
  const added = AddedTokens.safeParse(tokenizer.added_tokens ?? [])
  if (!added.success) throw new CheckpointError(file, 'added_tokens is not a list of tokens with ids')
  const { vocab, type, merges } = model.data
  if (type === 'BPE' && !Array.isArray(merges)) {
    throw new CheckpointError(
      file,
      'model.merges is missing: the tokenizer was not saved whole, save or download it again'
    )
  }
  if (Array.isArray(vocab)) {
    const beyond = vocab[vocabSize]
    if (beyond !== undefined) throw outside(file, beyond[0], vocabSize, vocabSize)
  } else {
    for (const [token, id] of Object.entries(vocab)) {
      if (id >= vocabSize) throw outside(file, token, id, vocabSize)
    }
  }
}

function outside(file: string, token: string, id: number, vocabSize: number): CheckpointError {
  return new CheckpointError(
    file,
    `token ${JSON.stringify(token.slice(0, 40))} has id ${id}, but the model's vocabulary has ${vocabSize}: ` +
      'the tokenizer belongs to another model'
  )
}
