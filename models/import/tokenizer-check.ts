import { CheckpointError } from '../errors.ts'
import { loadTokenizer } from '../tokenizer/tokenizer.ts'
import type { Checkpoint } from './checkpoint.ts'

/**
 * Loads the tokenizer once, in a process of its own, and encodes a word with it.
 *
 * @throws {CheckpointError} when a prompt could not be encoded.
 */
export async function checkTokenizer({ file, files, config }: Checkpoint): Promise<void> {
  try {
    const tokenizer = await loadTokenizer({
      files: Object.fromEntries(files),
      bosTokenId: config.bosTokenId,
      eosTokenIds: config.eosTokenIds ?? [],
      vocabSize: config.shape.vocabSize
    })
    try {
      await tokenizer.encode('word')
    } finally {
      await tokenizer.close()
    }
  } catch (error) {
    throw new CheckpointError(file, `its tokenizer cannot be used: ${(error as Error).message}`, {
      cause: error
    })
  }
}
