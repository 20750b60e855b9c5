import type { TokenMask } from '../runtime/token-mask.ts'

/** What the thread of a grammar is started with: bytes of every token, as in a tokenizer's vocabulary. */
export interface GrammarThreadSetup {
  bytes: Uint8Array
  offsets: Uint32Array
  /** Tokens that the model has; those without bytes are never allowed. */
  vocabSize: number
  /** Tokens that end an answer. */
  endIds: number[]
}

export type GrammarCall =
  /** Makes a grammar of a constraint, as the text of its JSON, and compiles it; those before are forgotten. */
  | { op: 'compile'; constraint: string }
  /** What may follow these tokens: the first `keep` that were named last for this answer, and some more. */
  | { op: 'mask'; answer: number; keep: number; tokens: number[] }
  | { op: 'close'; answer: number }

export type GrammarReply =
  | { kind: 'ready' }
  | { kind: 'mask'; mask: TokenMask }
  /** `isBroken`: the thread is of no use any more. */
  | { kind: 'error'; message: string; isBroken: boolean }
