import type { Pooling } from '../../../models/runtime/pooling.ts'
import { ComputedRuns } from './computed-runs.ts'

/** What an answer left in its slot's KV cache. */
export interface Conversation {
  /** Keeps conversations of different clients apart; see `KvSlots`. */
  scope: string
  /** Whether it was computed as an exact one. @default false */
  exact?: boolean
  /** Prompt and answer. */
  tokens: readonly number[]
  /** How many of them are the prompt's. */
  promptTokens: number
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
 * The slots of a deployment's KV caches, and what is still in those that are free: a prompt that begins like what a slot
 * holds goes on from there, wherever the two part, and what was behind that is forgotten.
 *
 * A cache that is hit answers sooner, and a client that measures that learns what another has asked. So a cache serves
 * only prompts of its own scope: what the client named as its own, or its key. Without either nobody knows whose a prompt is, and a
 * cache goes on only with one that contains the whole earlier prompt and the whole answer to it: to hit it one must know all of it
 * already. Caches of different sources lie under different leases and never meet.
 */
export class KvSlots {
  readonly #microBatchSlots: number
  readonly #taken: boolean[]
  /** What is cached in a slot, in the order of its last use: the first entry is the one to give up first. */
  readonly #cached = new Map<number, Cached>()
  /** In which steps that was computed which the session of a taken slot goes on from. */
  readonly #runs = new Map<number, ComputedRuns>()

  /** @param microBatchSlots neighbouring slots whose sessions decode together */
  constructor(slots: number, microBatchSlots: number) {
    this.#microBatchSlots = microBatchSlots
    this.#taken = new Array(slots).fill(false)
  }

  get free(): number {
    return this.#taken.filter(taken => !taken).length
  }

  /** Free slots that hold something; nothing else is kept. */
  get cached(): number {
    return this.#cached.size
  }

  /** A slot for a prompt, or undefined when all are taken. */
  take(request: SlotRequest): TakenSlot | undefined {
    const chosen = this.#choose(request)
    if (chosen === undefined) return undefined
    const { slot, keepTokens } = chosen
    const cached = this.#cached.get(slot)
    this.#taken[slot] = true
    this.#cached.delete(slot)
    this.#runs.set(slot, cached?.runs.until(keepTokens) ?? new ComputedRuns())
    return { slot, keepTokens, intactFrom: keepTokens === 0 ? 0 : cached!.intactFrom }
  }

  /** Tokens that a request would not have to compute, on any stage. */
  held(request: SlotRequest): number {
    const { slot = -1, keepTokens = 0 } = this.#choose(request) ?? {}
    return this.#cached.get(slot)?.intactFrom === 0 ? keepTokens : 0
  }

  giveBack(slot: number, conversation?: Conversation): void {
    this.#taken[slot] = false
    const runs = this.#runs.get(slot) ?? new ComputedRuns()
    this.#runs.delete(slot)
    if (conversation === undefined) return
    this.#cached.set(slot, { ...conversation, runs: runs.followedBy(conversation), intactFrom: 0 })
  }

  /** The KV caches of stage `at` are gone; `stages` there are. */
  lost(at: number, stages: number): void {
    for (const [slot, conversation] of this.#cached) {
      conversation.intactFrom = Math.max(conversation.intactFrom, at + 1)
      if (conversation.intactFrom >= stages) this.#cached.delete(slot)
    }
  }

  /** The free slot that a request gets, and how many tokens of what is there it goes on from. */
  #choose({ scope, prompt, known, exact = false, pooling }: SlotRequest): Chosen | undefined {
    const wanted = { scope, exact, pools: pooling !== undefined, tokens: [...prompt, ...known] }
    const kept = new Map<number, number>()
    for (const [slot, cached] of this.#cached) kept.set(slot, keptOf(cached, wanted))
    const slot = this.#longest(wanted, kept) ?? this.#leastMissed(scope)
    return slot === undefined ? undefined : { slot, keepTokens: kept.get(slot) ?? 0 }
  }

  /** The slot that has the most of a prompt, where that is worth what is forgotten behind it. */
  #longest({ tokens }: Wanted, kept: ReadonlyMap<number, number>): number | undefined {
    const [best] = [...kept]
      .map(([slot, keepTokens]) => ({ slot, keepTokens, cachedTokens: this.#cached.get(slot)!.cachedTokens }))
      // A few words that all prompts of a client begin with are not worth a conversation.
      .filter(({ keepTokens, cachedTokens }) => 2 * keepTokens >= Math.min(cachedTokens, tokens.length))
      .sort((a, b) => b.keepTokens - a.keepTokens || a.cachedTokens - b.cachedTokens)
    return best !== undefined && best.keepTokens > 0 ? best.slot : undefined
  }

  /** The free slot that costs the others the least. */
  #leastMissed(scope: string): number | undefined {
    const free = [...this.#taken.keys()].filter(slot => !this.#taken[slot])
    // Micro-batches of equal size leave no stage waiting; a slot without a cache costs no conversation its cache; who fills
    // many slots gives up its own first; a step computes the slots between those that take part, too.
    const age = [...this.#cached.keys()]
    const held = this.#heldByClient()
    held.set(clientOf(scope), (held.get(clientOf(scope)) ?? 0) + 1)
    const cost = (slot: number) => {
      const taken = this.#takenBeside(slot)
      const width = spanOf([...taken, slot]) - spanOf(taken)
      const cached = this.#cached.get(slot)
      const share = cached === undefined ? 0 : (held.get(clientOf(cached.scope)) ?? 0)
      return [taken.length, cached === undefined ? 0 : 1, -share, width, age.indexOf(slot), slot]
    }
    return free.sort((a, b) => compare(cost(a), cost(b)))[0]
  }

  /** How many slots hold something of each client. */
  #heldByClient(): Map<string, number> {
    const held = new Map<string, number>()
    for (const { scope } of this.#cached.values()) {
      held.set(clientOf(scope), (held.get(clientOf(scope)) ?? 0) + 1)
    }
    return held
  }

  /** The slots of a slot's micro-batch that are taken. */
  #takenBeside(slot: number): number[] {
    const start = Math.floor(slot / this.#microBatchSlots) * this.#microBatchSlots
    const end = start + this.#microBatchSlots
    return [...this.#taken.keys()].slice(start, end).filter(beside => this.#taken[beside])
  }
}

/** What a free slot holds. */
interface Cached extends Conversation {
  runs: ComputedRuns
  /** The first stage that has its part. */
  intactFrom: number
}

interface Chosen {
  slot: number
  keepTokens: number
}

/** A prompt and what is known behind it, looking for the cache of its beginning. */
type Wanted = Required<Pick<Conversation, 'scope' | 'exact' | 'tokens'>> & { pools: boolean }

/** Tokens of a cache that a prompt goes on from; at least one has to be fed for the next one to be drawn. */
function keptOf(cached: Cached, { scope, exact, pools, tokens }: Wanted): number {
  if (pools || cached.scope !== scope || (exact && cached.exact !== true)) return 0
  const common = commonLength(cached.tokens, tokens)
  if (scope === '' && common < cached.tokens.length) return 0
  const most = Math.min(common, cached.cachedTokens, tokens.length - 1)
  // What is exact is the same wherever it is cut. Else the rest goes in by the very steps that computed it before.
  return exact ? most : cached.runs.stepBefore(most)
}

/** How many tokens two sequences begin with alike. */
function commonLength(a: readonly number[], b: readonly number[]): number {
  const most = Math.min(a.length, b.length)
  let length = 0
  while (length < most && a[length] === b[length]) length++
  return length
}

/** Whose a scope is: the holder of the key, which `ApiKeys.scopeOf` puts into its first line, or it is its own. */
function clientOf(scope: string): string {
  return scope.split('\n', 1)[0]!
}

/** How many slots lie from the first to the last one. */
function spanOf(slots: readonly number[]): number {
  return slots.length === 0 ? 0 : Math.max(...slots) - Math.min(...slots) + 1
}

function compare(a: readonly number[], b: readonly number[]): number {
  const i = a.findIndex((value, at) => value !== b[at])
  return i < 0 ? 0 : a[i]! - b[i]!
}
