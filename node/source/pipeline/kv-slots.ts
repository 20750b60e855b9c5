import type { Pooling } from '../../../models/runtime/pooling.ts'

/** What an answer left in its slot's KV cache. */
export interface Conversation {
  /** Keeps conversations of different clients apart; see `KvSlots`. */
  scope: string
  /** Whether it was computed as an exact one. @default false */
  exact?: boolean
  /** Prompt and answer. */
  tokens: readonly number[]
  /** How many of them are in the cache: the last one drawn was perhaps never fed back. */
  cachedTokens: number
}

/** What a request asks a slot for. */
export interface SlotRequest {
  scope: string
  prompt: readonly number[]
  /** Tokens of the answer that are known: it was cut off. */
  known: readonly number[]
  /** Whether it may go on only from what was exact. @default false */
  exact?: boolean | undefined
  /** How all of its tokens are pooled, so that none of them may be in the cache already. */
  pooling?: Pooling | undefined
}

export interface TakenSlot {
  slot: number
  /** Tokens of prompt and answer that the slot's KV cache holds already. */
  keepTokens: number
  /** The first stage that does: those before it have lost their part, or have to compute it again for one that has. */
  intactFrom: number
}

/**
 * The slots of a deployment's KV caches, and what is still in those that are free: the next turn of a conversation goes
 * on from there.
 *
 * A cache that is hit answers sooner, and a client that measures that learns what another has asked. So a cache goes
 * on only with a prompt that contains the whole earlier prompt and the whole answer to it, in the same scope (what the
 * client named as its own, if anything): to hit it one must know all of it already. Prompts that merely begin alike
 * never share a cache. Caches of different sources lie under different leases and never meet.
 */
export class KvSlots {
  readonly #microBatchSlots: number
  readonly #taken: boolean[]
  /** What is cached in a slot, in the order of its last use: the first entry is the one to give up first. */
  readonly #cached = new Map<number, Conversation & { intactFrom: number }>()

  /** @param microBatchSlots neighbouring slots whose sessions decode together */
  constructor(slots: number, microBatchSlots: number) {
    this.#microBatchSlots = microBatchSlots
    this.#taken = new Array(slots).fill(false)
  }

  get free(): number {
    return this.#taken.filter(taken => !taken).length
  }

  /** A slot for a prompt, or undefined when all are taken. */
  take({ scope, prompt, known, exact = false, pooling }: SlotRequest): TakenSlot | undefined {
    const wanted = { scope, exact, pools: pooling !== undefined, tokens: [...prompt, ...known] }
    const { tokens } = wanted
    const slot = this.#slotFor(wanted)
    if (slot === undefined) return undefined
    const conversation = this.#cached.get(slot)
    this.#taken[slot] = true
    this.#cached.delete(slot)
    if (conversation === undefined || !continues(conversation, wanted)) {
      return { slot, keepTokens: 0, intactFrom: 0 }
    }
    const { cachedTokens, intactFrom } = conversation
    // At least one token must be fed for the next one to be drawn.
    return { slot, keepTokens: Math.min(cachedTokens, tokens.length - 1), intactFrom }
  }

  giveBack(slot: number, conversation?: Conversation): void {
    this.#taken[slot] = false
    if (conversation !== undefined) this.#cached.set(slot, { ...conversation, intactFrom: 0 })
  }

  /** The KV caches of stage `at` are gone; `stages` there are. */
  lost(at: number, stages: number): void {
    for (const [slot, conversation] of this.#cached) {
      conversation.intactFrom = Math.max(conversation.intactFrom, at + 1)
      if (conversation.intactFrom >= stages) this.#cached.delete(slot)
    }
  }

  #slotFor(wanted: Wanted): number | undefined {
    const free = [...this.#taken.keys()].filter(slot => !this.#taken[slot])
    const hits = free.filter(slot => {
      const conversation = this.#cached.get(slot)
      return conversation !== undefined && continues(conversation, wanted)
    })
    if (hits.length > 0) {
      return hits.reduce((a, b) =>
        this.#cached.get(b)!.cachedTokens > this.#cached.get(a)!.cachedTokens ? b : a
      )
    }
    // Micro-batches of equal size leave no stage waiting; a slot without a cache costs no conversation its cache; a step
    // computes the slots between those that take part, too.
    const age = [...this.#cached.keys()]
    const cost = (slot: number) => {
      const taken = this.#takenBeside(slot)
      const width = spanOf([...taken, slot]) - spanOf(taken)
      return [taken.length, this.#cached.has(slot) ? 1 : 0, width, age.indexOf(slot), slot]
    }
    return free.sort((a, b) => compare(cost(a), cost(b)))[0]
  }

  /** The slots of a slot's micro-batch that are taken. */
  #takenBeside(slot: number): number[] {
    const start = Math.floor(slot / this.#microBatchSlots) * this.#microBatchSlots
    const end = start + this.#microBatchSlots
    return [...this.#taken.keys()].slice(start, end).filter(beside => this.#taken[beside])
  }
}

/** A prompt and what is known behind it, looking for the cache of its beginning. */
type Wanted = Required<Pick<Conversation, 'scope' | 'exact' | 'tokens'>> & { pools: boolean }

function continues(conversation: Conversation, { scope, exact, pools, tokens }: Wanted): boolean {
  const { tokens: before } = conversation
  return (
    !pools &&
    conversation.scope === scope &&
    (conversation.exact === true || !exact) &&
    tokens.length >= before.length &&
    before.every((token, i) => token === tokens[i])
  )
}

/** How many slots lie from the first to the last one. */
function spanOf(slots: readonly number[]): number {
  return slots.length === 0 ? 0 : Math.max(...slots) - Math.min(...slots) + 1
}

function compare(a: readonly number[], b: readonly number[]): number {
  const i = a.findIndex((value, at) => value !== b[at])
  return i < 0 ? 0 : a[i]! - b[i]!
}
