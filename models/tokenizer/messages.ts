/** A message of a conversation, as a chat template sees it. */
export interface TemplateMessage {
  role: string
  content: string
}

/** What the tokenizer's process is started with: the files as the model came with them. */
export interface WorkerInit {
  files: Record<string, Uint8Array>
  bosTokenId: number | undefined
  eosTokenIds: number[]
  vocabSize: number | undefined
}

export type WorkerCall = { kind: 'encode'; text: string } | { kind: 'chat'; messages: TemplateMessage[] }

/** Bytes of every token one behind the other: token i is bytes[offsets[i], offsets[i + 1]). */
export interface Vocabulary {
  bytes: Uint8Array
  offsets: Uint32Array
  /** Spaces that a decode takes off the beginning of a text. */
  stripStart: number
}

export type WorkerReply =
  | { kind: 'ready'; vocabulary: Vocabulary; hasChatTemplate: boolean; endOfTurnIds: number[] }
  | { kind: 'ids'; ids: number[] }
  | { kind: 'error'; name: string; message: string }
