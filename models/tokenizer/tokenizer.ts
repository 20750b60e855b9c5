import { createDecoder, type IncrementalDecoder, tokenBytes } from './decoder.ts'
import { TextTooLongError } from './errors.ts'
import { type Deadlines, GuardedProcess } from './guarded-process.ts'
import type { TemplateArguments, TemplateMessage } from './messages.ts'

/** Reading a vocabulary of 150,000 tokens takes about a second on a small machine. */
const LOAD_TIMEOUT_MS = 30_000
/** What any prompt may take, and each character of it besides: ten times what Llama 2's vocabulary takes on a busy machine. */
const CALL_TIMEOUT_MS = 10_000
const CHARACTER_TIMEOUT_MS = 0.25

/** Llama-2's vocabulary holds 90 MB of a small device's memory and is loaded again in half a second. */
const IDLE_TIMEOUT_MS = 300_000
/** Normalising may make a text shorter before it is encoded, but never as much as this. */
const MAX_SHRINKING = 4

/** The vocabulary and chat template of one model. */
export interface Tokenizer {
  /** The chat template as the model came with it; null: the model has none. */
  readonly chatTemplate: string | null
  /** Control tokens that the chat template writes behind a reply; they end one besides the manifest's. */
  readonly endOfTurnIds: readonly number[]
  /** The token behind a text that is whole, to which nothing is to follow, where the model wants one; `encode` gives none. */
  readonly closingId: number | undefined
  /** Token ids that the vocabulary names: [0, vocabSize). */
  readonly vocabSize: number
  /** Processor time that starting its process took, the first time. */
  readonly startCpuMs: number
  /** Ids of a text, after the model's first token (BOS) where it wants one. No part of the text becomes a control token. */
  encode(text: string, options?: { signal?: AbortSignal }): Promise<number[]>
  /**
   * Ids of a conversation by the model's chat template, up to where the assistant's reply begins; `args` are what the
   * template is given besides, `behind` is what the reply begins with, control tokens among it.
   *
   * @throws {ChatTemplateError} when the model has none or it refuses the conversation.
   */
  encodeChat(
    messages: readonly TemplateMessage[],
    options?: { signal?: AbortSignal; args?: TemplateArguments; behind?: string | undefined }
  ): Promise<number[]>
  /**
   * `continuation`: the text goes on from a raw prompt, so a leading space is part of it. Default false. `shown`: control
   * tokens that are read as what they are called; all others are read as nothing.
   */
  decoder(options?: { continuation?: boolean; shown?: readonly string[] }): IncrementalDecoder
  /** UTF-8 bytes of one token, which may be part of a character; none for control tokens. */
  tokenBytes(id: number): Uint8Array
  /** Ends the process; what is pending rejects. */
  close(): Promise<void>
}

export interface TokenizerInit extends Partial<Deadlines> {
  /** tokenizer.json, and where the model has them tokenizer_config.json and chat_template.jinja. */
  files: Record<string, Uint8Array>
  bosTokenId?: number | undefined
  eosTokenIds: readonly number[]
  /** Rows of the model's embedding; a vocabulary beyond it is refused. */
  vocabSize?: number | undefined
  /** Tokens that the model reads at most; texts that are longer for certain are refused before they are encoded. */
  contextLength?: number | undefined
  /** Whether its process may end while it is idle; asked again and again. @default always */
  mayRest?: (() => boolean) | undefined
}

/**
 * Loads a tokenizer in a process of its own: patterns and templates come with models and may be hostile.
 *
 * @throws {TokenizerError} naming the file that cannot be used.
 */
export async function loadTokenizer(init: TokenizerInit): Promise<Tokenizer> {
  const {
    files,
    bosTokenId,
    eosTokenIds,
    vocabSize,
    contextLength,
    mayRest = () => true,
    ...deadlines
  } = init
  const guarded = new GuardedProcess(
    { files: ownFiles(files), bosTokenId, eosTokenIds: [...eosTokenIds], vocabSize },
    {
      loadTimeoutMs: LOAD_TIMEOUT_MS,
      callTimeoutMs: CALL_TIMEOUT_MS,
      characterTimeoutMs: CHARACTER_TIMEOUT_MS,
      idleTimeoutMs: IDLE_TIMEOUT_MS,
      ...deadlines
    },
    mayRest
  )
  const { vocabulary, chatTemplate, endOfTurnIds, closingId, cpuMs } = await guarded.start()
  const longest = vocabulary.offsets.reduce(
    (most, end, i, all) => Math.max(most, end - (all[i - 1] ?? end)),
    1
  )
  // A character has at least one byte, so so many characters have at least so many tokens.
  const checkLength = (characters: number): void => {
    const leastTokens = Math.floor(characters / (longest * MAX_SHRINKING))
    if (contextLength !== undefined && leastTokens > contextLength) {
      throw new TextTooLongError(
        `the prompt has ${characters} characters, far more than a context of ${contextLength} tokens holds: shorten it`
      )
    }
  }
  return {
    chatTemplate,
    endOfTurnIds,
    closingId,
    vocabSize: vocabulary.offsets.length - 1,
    startCpuMs: cpuMs,
    encode: async (text, { signal } = {}) => {
      checkLength(text.length)
      return await guarded.call({ kind: 'encode', text }, signal)
    },
    encodeChat: async (messages, { signal, args, behind } = {}) => {
      checkLength(messages.reduce((sum, { content }) => sum + content.length, 0))
      return await guarded.call({ kind: 'chat', messages: [...messages], args, behind }, signal)
    },
    decoder: ({ continuation = false, shown = [] } = {}) =>
      createDecoder(vocabulary, continuation, new Set(shown)),
    tokenBytes: id => tokenBytes(vocabulary, id),
    close: () => guarded.close()
  }
}

/** Only what the process reads; a Buffer may share its memory with others, and all of it would be copied. */
function ownFiles(files: Record<string, Uint8Array>): Record<string, Uint8Array> {
  const names = ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja']
  const present = names.filter(name => files[name] !== undefined)
  return Object.fromEntries(present.map(name => [name, new Uint8Array(files[name]!)]))
}
