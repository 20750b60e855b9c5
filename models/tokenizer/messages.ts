/** A message of a conversation, as a chat template sees it. */
export interface TemplateMessage {
  role: string
  content: string
  /** What the assistant thought before it. */
  reasoning_content?: string
  thinking?: string
  /** Calls of tools that the assistant made. */
  tool_calls?: TemplateCall[]
  /** In a tool's turn: the call that it answers, and the tool. */
  tool_call_id?: string
  name?: string
}

/** A call as chat templates know it; `arguments` are an object, or its JSON where the template puts texts together. */
export interface TemplateCall {
  id: string
  type: 'function'
  function: { name: string; arguments: unknown }
}

/** Variables of a chat template besides the conversation: `tools`, `enable_thinking` and whatever else it reads. */
export type TemplateArguments = Readonly<Record<string, unknown>>

/** What the tokenizer's process is started with: the files as the model came with them. */
export interface WorkerInit {
  files: Record<string, Uint8Array>
  bosTokenId: number | undefined
  eosTokenIds: number[]
  vocabSize: number | undefined
}

export type WorkerCall =
  | { kind: 'encode'; text: string }
  | {
      kind: 'chat'
      messages: TemplateMessage[]
      args?: TemplateArguments | undefined
      behind?: string | undefined
    }

/** Bytes of every token one behind the other: token i is bytes[offsets[i], offsets[i + 1]). */
export interface Vocabulary {
  bytes: Uint8Array
  offsets: Uint32Array
  /** Spaces that a decode takes off the beginning of a text. */
  stripStart: number
  /** What control tokens are called; they have no bytes. */
  controls: [id: number, content: string][]
}

export type WorkerReply =
  | {
      kind: 'ready'
      vocabulary: Vocabulary
      chatTemplate: string | null
      endOfTurnIds: number[]
      closingId: number | undefined
      /** Processor time of the process until then. */
      cpuMs: number
    }
  | { kind: 'ids'; ids: number[] }
  | { kind: 'error'; name: string; message: string }
