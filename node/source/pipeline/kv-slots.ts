import type { Pooling } from '../../../models/runtime/pooling.ts'
import { ComputedRuns } from './computed-runs.ts'
import { ANYWHERE, type MayCut } from './dropped-tokens.ts'
import { KeptConversations } from './kept-conversations.ts'

/** What an answer left in its slot's KV cache. */
export interface Conversation {
  /** Keeps conversations of different clients apart; see `KvSlots`. */
  scope: string
  /** Whether it was computed as an exact one. @default false */
  exact?: boolean
  /** Whether some of it was to be exact and was not to the bit, on any stage. @default false */
  rounded?: boolean
  /** Prompt and answer. */
  tokens: readonly number[]
  /** How many of them are the prompt's. */
  promptTokens: number
  /** How many of them are in the cache: the last one drawn was perhaps never fed back. */
  cachedTokens: number
  /** How many first tokens there are of which every stage has a state, so that it can be gone on from there; absent: any number. */
  states?: readonly number[]
}

/** What a request asks a slot for. */
export interface SlotRequest {
  scope: string
  prompt: readonly number[]
  /** Tokens of the answer that are known: it was cut off. */
  known: readonly number[]
  /** Whether it may go on only from what was exact. @default false */
  exact?: boolean | undefined
  /** The steps in which its beginning is computed where a slot has nothing of it. @default a prompt's usual ones */
  runs?: ComputedRuns | undefined
  /** How all of its tokens are pooled, so that none of them may be in the cache already. */
  pooling?: Pooling | undefined
}

export interface TakenSlot {
  slot: number
  /** Tokens of prompt and answer that the slot's KV cache holds already. */
  keepTokens: number
  /** The first stage that does: those before it have lost their part, or have to compute it again for one that has. */
  intactFrom: number
  /** Whether some of them were to be exact and are not to the bit: stages that are may have them from one that was not. @default false */
  rounded?: boolean
  /** The slot that they are copied from on all stages; absent: they are there. */
  copyFrom?: number
  /** The number under which all stages have stored them, in the place of a slot. */
  restore?: number
  /** What the slot had, which the stages are asked to store: the answer goes to `KvSlots.stored`. */
  store?: ToStore
}

/** A conversation that makes room in its slot. */
export interface ToStore {
  key: number
  conversation: Cached
}

/** Fewer tokens are as soon computed. */
const LEAST_STORED_TOKENS = 64

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
  /** The steps that computed what the session of a taken slot goes on from. */
  readonly #runs = new Map<number, ComputedRuns>()

  /** Those whose slots others have now, as far as stages keep such. */
  readonly #kept = new KeptConversations<Cached>()
  #stages: 'store' | 'forget' = 'store'

  readonly #mayCut: MayCut

  /**
   * @param microBatchSlots neighbouring slots whose sessions decode together
   * @param mayCut where a cache may be cut; absent: anywhere
   */
  constructor(slots: number, microBatchSlots: number, mayCut: MayCut = ANYWHERE) {
    this.#mayCut = mayCut
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

  /**
   * A slot for a prompt, or undefined when all are taken.
   *
   * @param running what sessions in taken slots have in all stages' caches by now; absent: nothing can be copied
   */
  take(request: SlotRequest, running?: Running): TakenSlot | undefined {
    const chosen = this.#choose(request, running)
    if (chosen === undefined) return undefined
    const { slot, keepTokens, copyFrom, restore } = chosen
    const cached =
      restore === undefined
        ? (this.#cached.get(copyFrom ?? slot) ?? this.#runningIn(copyFrom, running))
        : this.#kept.get(restore)
    if (restore !== undefined) this.#kept.touch(restore)
    this.#taken[slot] = true
    const store = this.#toStore(chosen)
    this.#cached.delete(slot)
    const given = keepTokens === 0 ? request.runs : undefined
    this.#runs.set(slot, given ?? cached?.runs.until(keepTokens) ?? new ComputedRuns())
    const rounded = keepTokens > 0 && cached?.rounded === true ? { rounded: true } : {}
    const intactFrom = keepTokens === 0 ? 0 : cached!.intactFrom
    return {
      slot,
      keepTokens,
      intactFrom,
      ...rounded,
      ...(copyFrom !== undefined && { copyFrom }),
      ...(restore !== undefined && { restore }),
      ...(store !== undefined && { store })
    }
  }

  /**
   * Whether every stage has stored what had a slot.
   *
   * @param isStored undefined: one of them never does, and is asked for nothing more
   */
  stored({ key, conversation }: ToStore, isStored: boolean | undefined): void {
    this.#kept.end(key, isStored === true ? conversation : undefined)
    if (isStored === undefined) this.#stages = 'forget'
  }

  /** A stage has given up what was stored under a number. */
  forget(key: number): void {
    this.#kept.forget(key)
  }

  /** Tokens that a request would not have to compute, on any stage. */
  held(request: SlotRequest): number {
    const { slot = -1, keepTokens = 0, restore } = this.#choose(request) ?? {}
    if (restore !== undefined) return keepTokens
    return this.#cached.get(slot)?.intactFrom === 0 ? keepTokens : 0
  }

  /**
   * How many tokens all stages have of each conversation of a client that is known, but of the one that a request goes on from;
   * those first that were used last. One that is stored and goes on in a slot is one conversation.
   *
   * @param request absent: none goes on
   */
  heldBeside(request?: SlotRequest): number[] {
    const { slot, keepTokens = 0, restore } = (request && this.#choose(request)) ?? {}
    const goesOnIn = keepTokens > 0 && restore === undefined ? slot : undefined
    const stored = this.#kept.entries.map(([key, cached]) => ({ cached, goesOn: key === restore }))
    const inSlots = [...this.#cached].map(([at, cached]) => ({ cached, goesOn: at === goesOnIn }))
    const known = [...stored, ...inSlots].filter(
      ({ cached: { scope, intactFrom } }) => scope !== '' && intactFrom === 0
    )
    const isPartOf = (one: Held, other: Held, isLater: boolean) =>
      isBeginningOf(one.cached, other.cached) &&
      (other.goesOn || isLater || !isBeginningOf(other.cached, one.cached))
    return known
      .filter((one, at) => !one.goesOn && !known.some((other, i) => i !== at && isPartOf(one, other, i > at)))
      .map(({ cached }) => cached.cachedTokens)
      .reverse()
  }

  /** The steps that computed what the session of a taken slot goes on from. */
  runsOf(slot: number): ComputedRuns {
    return this.#runs.get(slot) ?? new ComputedRuns()
  }

  giveBack(slot: number, conversation?: Conversation): void {
    this.#taken[slot] = false
    const runs = this.runsOf(slot)
    this.#runs.delete(slot)
    if (conversation === undefined) return
    this.#cached.set(slot, { ...conversation, runs: runs.followedBy(conversation), intactFrom: 0 })
  }

  /** The KV caches of stage `at` are gone; `stages` there are. */
  lost(at: number, stages: number): void {
    this.#kept.clear()
    this.#stages = 'store'
    for (const [slot, conversation] of this.#cached) {
      conversation.intactFrom = Math.max(conversation.intactFrom, at + 1)
      // A stage that computes it again gets ahead of the states of those behind.
      if (conversation.intactFrom >= stages || conversation.states !== undefined) this.#cached.delete(slot)
    }
  }

  /** The free slot that a request gets, how many tokens it goes on from, and where these are. */
  #choose(request: SlotRequest, running?: Running): Chosen | undefined {
    const { scope, prompt, known, exact = false, pooling } = request
    const wanted = { scope, exact, pools: pooling !== undefined, tokens: [...prompt, ...known] }
    const keptIn = (slot: number) => {
      const cached = this.#cached.get(slot)
      return cached === undefined ? 0 : this.#keptOf(cached, wanted)
    }
    const best = this.#longest(wanted, running)
    const stored = this.#longestStored(wanted)
    if (stored !== undefined && stored.keepTokens > (best?.keepTokens ?? 0)) {
      const slot = this.#leastMissed(scope)
      return slot === undefined ? undefined : { slot, ...stored }
    }
    // Where more is kept than forgotten the slot goes on: an answer that is asked for again is not there twice. What cannot
    // be copied goes on also where it is most of the prompt; a few words that all begin with are not worth a conversation.
    const most = running === undefined ? wanted.tokens.length : Number.POSITIVE_INFINITY
    if (best?.isFree && 2 * best.keepTokens >= Math.min(best.cachedTokens, most)) return best
    const beside = this.#leastMissed(scope, best?.slot)
    if (running !== undefined && best?.intactFrom === 0 && beside !== undefined)
      return { slot: beside, keepTokens: best.keepTokens, copyFrom: best.slot }
    const slot = this.#leastMissed(scope)
    return slot === undefined ? undefined : { slot, keepTokens: keptIn(slot) }
  }

  /** The slot with the most of a prompt; of equal ones that with the least to forget, but nothing of a running session. */
  #longest(wanted: Wanted, running: Running = NONE): (Chosen & Found) | undefined {
    const free = [...this.#cached].map(([slot, cached]) => ({ slot, isFree: true, cached }))
    const taken = [...running.keys()].flatMap(slot => {
      const cached = this.#runningIn(slot, running)
      // What runs is said in full to nobody yet.
      return cached === undefined || wanted.scope === '' ? [] : [{ slot, isFree: false, cached }]
    })
    const [best] = [...free, ...taken]
      .map(({ slot, isFree, cached }) => {
        const { cachedTokens, intactFrom } = cached
        return { slot, isFree, cachedTokens, intactFrom, keepTokens: this.#keptOf(cached, wanted) }
      })
      .filter(({ keepTokens }) => keepTokens > 0)
      .sort(
        (a, b) =>
          b.keepTokens - a.keepTokens ||
          Number(b.isFree) - Number(a.isFree) ||
          a.cachedTokens - b.cachedTokens
      )
    return best
  }

  /** The stored conversation that has the most of a prompt. */
  #longestStored(wanted: Wanted): { keepTokens: number; restore: number } | undefined {
    const [best] = this.#kept.entries
      .map(([restore, cached]) => ({ restore, keepTokens: this.#keptOf(cached, wanted) }))
      .filter(({ keepTokens }) => keepTokens > 0)
      .sort((a, b) => b.keepTokens - a.keepTokens)
    return best
  }

  /** What the slot that is chosen has, where most of it would be lost. */
  #toStore({ slot, keepTokens, copyFrom, restore }: Chosen): ToStore | undefined {
    const conversation = this.#cached.get(slot)
    if (conversation === undefined || this.#stages === 'forget') return undefined
    const { cachedTokens, intactFrom, states } = conversation
    const goesOn = copyFrom === undefined && restore === undefined && 2 * keepTokens >= cachedTokens
    if (goesOn || cachedTokens < LEAST_STORED_TOKENS || intactFrom > 0 || states !== undefined)
      return undefined
    const key = this.#kept.begin(conversation)
    return key === undefined ? undefined : { key, conversation }
  }

  /** Tokens that a prompt goes on from, where the cache may be cut there. */
  #keptOf(cached: Cached, wanted: Wanted): number {
    const kept = keptOf(cached, wanted)
    return this.#mayCut(cached.cachedTokens, kept) ? kept : 0
  }

  /** What the session in a taken slot has so far, as if it were free. */
  #runningIn(slot: number | undefined, running: Running = NONE): Cached | undefined {
    const conversation = slot === undefined ? undefined : running.get(slot)
    if (slot === undefined || conversation === undefined) return undefined
    const runs = this.runsOf(slot)
    return { ...conversation, runs: runs.followedBy(conversation), intactFrom: 0 }
  }

  /** The free slot, but for one, that costs the others the least. */
  #leastMissed(scope: string, but?: number): number | undefined {
    const free = [...this.#taken.keys()].filter(slot => !this.#taken[slot] && slot !== but)
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
export interface Cached extends Conversation {
  runs: ComputedRuns
  /** The first stage that has its part. */
  intactFrom: number
}

/** What sessions have in the KV caches of all stages by now, by their slots. */
export type Running = ReadonlyMap<number, Conversation>

const NONE: Running = new Map()

interface Chosen {
  slot: number
  keepTokens: number
  copyFrom?: number
  restore?: number
}

/** What is held of a conversation, and whether a request goes on from just that. */
interface Held {
  cached: Cached
  goesOn: boolean
}

/** A slot that has a part of a prompt. */
interface Found {
  isFree: boolean
  cachedTokens: number
  intactFrom: number
}

/** A prompt and what is known behind it, looking for the cache of its beginning. */
type Wanted = Required<Pick<Conversation, 'scope' | 'exact' | 'tokens'>> & { pools: boolean }

/** Tokens of a cache that a prompt goes on from; at least one has to be fed for the next one to be drawn. */
function keptOf(cached: Cached, { scope, exact, pools, tokens }: Wanted): number {
  if (pools || cached.scope !== scope || (exact && cached.exact !== true)) return 0
  const common = commonLength(cached.tokens, tokens)
  if (scope === '' && common < cached.tokens.length) return 0
  const most = Math.min(common, cached.cachedTokens, tokens.length - 1)
  if (cached.states !== undefined) return Math.max(0, ...cached.states.filter(length => length <= most))
  // What is exact is the same wherever it is cut. Else the rest goes in by the very steps that computed it before.
  return exact ? most : cached.runs.stepBefore(most)
}

/** Whether all that one holds the other one holds, too. */
function isBeginningOf(one: Cached, other: Cached): boolean {
  return (
    one.scope === other.scope &&
    one.cachedTokens <= other.cachedTokens &&
    commonLength(one.tokens, other.tokens) >= one.cachedTokens
  )
}

/** How many tokens two sequences begin with alike. */
function commonLength(a: readonly number[], b: readonly number[]): number {
  const most = Math.min(a.length, b.length)
  let length = 0
  while (length < most && a[length] === b[length]) length++
  return length
}

/** The client that a scope belongs to: the holder of the key, which `ApiKeys.scopeOf` puts into its first line, or it is its own. */
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
