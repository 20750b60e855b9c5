import { CheckpointError } from '../errors.ts'
import { ChatTemplateError } from '../tokenizer/errors.ts'
import type { TemplateMessage } from '../tokenizer/messages.ts'
import { loadTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts'
import type { Checkpoint } from './checkpoint.ts'

const user = { role: 'user', content: 'Hello' }
const system = { role: 'system', content: 'Be brief.' }
const assistant = { role: 'assistant', content: 'Hello!' }

/** What programs send. */
const CONVERSATIONS: [what: string, messages: TemplateMessage[]][] = [
  ['one message of a user', [user]],
  ['a system message', [system, user]],
  ['a second turn', [user, assistant, user]]
]

/**
 * Loads the tokenizer once, in a process of its own, encodes a word with it, and renders its chat template.
 *
 * @returns what its user should know: which conversations the template cannot render.
 * @throws {CheckpointError} when a prompt could not be encoded.
 */
export async function checkTokenizer({ file, files, config }: Checkpoint): Promise<string[]> {
  try {
    const tokenizer = await loadTokenizer({
      files: Object.fromEntries(files),
      bosTokenId: config.bosTokenId,
      eosTokenIds: config.eosTokenIds ?? [],
      vocabSize: config.shape.vocabSize
    })
    try {
      await tokenizer.encode('word')
      return tokenizer.chatTemplate !== null ? await templateNotices(tokenizer) : []
    } finally {
      await tokenizer.close()
    }
  } catch (error) {
    throw new CheckpointError(file, `its tokenizer cannot be used: ${(error as Error).message}`, {
      cause: error
    })
  }
}

async function templateNotices(tokenizer: Tokenizer): Promise<string[]> {
  const notices: string[] = []
  for (const [what, messages] of CONVERSATIONS) {
    const problem = await tokenizer.encodeChat(messages).then(
      () => undefined,
      (error: Error) => error
    )
    if (problem === undefined) continue
    notices.push(`its chat template cannot render ${what}, so chats with it are refused: ${problem.message}`)
    // What fails for one message, or takes too long, would fail for all.
    if (messages.length === 1 || !(problem instanceof ChatTemplateError)) break
  }
  return notices
}
