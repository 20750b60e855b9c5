import type { GenerateEvent, GenerateResult, Objective, Privacy } from '../api.ts'
import type { Connection } from './connection.ts'
import { bytesOf } from './format.ts'
import { Store } from './store.ts'

export interface Message {
  role: 'user' | 'assistant'
  text: string
  /** Of an answer. */
  state?: 'running' | 'done' | 'stopped' | 'failed'
  /** What is done before the first token, or why it ended early. */
  note?: string
  /** Bytes of weights that devices have of those they need, by their names, while they fetch them. */
  fetched?: Readonly<Record<string, readonly [done: number, total: number]>>
  figures?: Figures
}

/** What an answer took, and where it was computed. */
export interface Figures {
  ttftMs: number
  tpotMs: number
  predictedTpotMs: number
  tokens: number
  devices: string[]
  recoveries: number
}

export interface Conversation {
  id: string
  messages: readonly Message[]
}

export interface ChatSettings {
  /** Name or id; empty: the node's default. */
  model: string
  objective: Objective
  privacy: Privacy
  /** `likeliest` draws no lots: the same question has the same answer. */
  wording: 'varied' | 'likeliest'
}

/** Where conversations outlive the page. */
export type Shelf = Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>

const SHELF_KEY = 'edgeshard.conversations'
const MAX_CONVERSATIONS = 30
const MAX_SHELF_CHARS = 2_000_000

/** The conversations of this browser. The node is sent one when it is to answer in it, and keeps none. */
export class Chats {
  readonly list: Store<readonly Conversation[]>
  readonly current: Store<string>
  readonly settings = new Store<ChatSettings>({
    model: '',
    objective: 'latency',
    privacy: 'prompt',
    wording: 'varied'
  })
  readonly #connection: Connection
  readonly #shelf: Shelf
  readonly #running = new Map<string, AbortController>()

  constructor(connection: Connection, shelf: Shelf) {
    this.#connection = connection
    this.#shelf = shelf
    const kept = taken(shelf)
    this.list = new Store<readonly Conversation[]>(kept.length === 0 ? [fresh()] : kept)
    this.current = new Store(this.list.value[0]!.id)
  }

  get conversation(): Conversation {
    return this.list.value.find(({ id }) => id === this.current.value) ?? this.list.value[0]!
  }

  /** Begins another conversation, or goes to one that is empty still. */
  begin(): void {
    const empty = this.list.value.find(({ messages }) => messages.length === 0)
    const conversation = empty ?? fresh()
    if (empty === undefined) this.list.set([conversation, ...this.list.value].slice(0, MAX_CONVERSATIONS))
    this.current.set(conversation.id)
  }

  open(id: string): void {
    this.current.set(id)
  }

  /** Forgets all conversations, here and on the shelf. */
  forget(): void {
    for (const id of this.#running.keys()) this.stop(id)
    const conversation = fresh()
    this.list.set([conversation])
    this.current.set(conversation.id)
    this.#shelf.removeItem(SHELF_KEY)
  }

  /** Asks in the conversation that is open; what comes is put there, whichever is open by then. */
  async send(text: string): Promise<void> {
    const { id, messages } = this.conversation
    if (this.#running.has(id)) return
    await this.#answer(id, [...messages, { role: 'user', text }])
  }

  /** Asks the last question again. */
  async retry(): Promise<void> {
    const { id, messages } = this.conversation
    const last = messages.findLastIndex(({ role }) => role === 'user')
    if (last < 0 || this.#running.has(id)) return
    await this.#answer(id, messages.slice(0, last + 1))
  }

  stop(id: string): void {
    this.#running.get(id)?.abort()
  }

  async #answer(id: string, asked: readonly Message[]): Promise<void> {
    const abort = new AbortController()
    this.#running.set(id, abort)
    let answer: Message = { role: 'assistant', text: '', state: 'running', note: 'asking' }
    const { beat } = this.#connection
    const show = () => this.#put(id, [...asked, answer])
    show()
    try {
      for await (const event of this.#connection.client.generate(this.#request(id, asked), {
        signal: abort.signal
      })) {
        answer = afterGenerated(answer, event)
        beat.soon(show)
      }
    } catch (error) {
      const said = error instanceof Error ? error.message : String(error)
      answer = abort.signal.aborted
        ? { ...withoutNote(answer), state: 'stopped' }
        : { ...withoutNote(answer), state: 'failed', note: said }
    } finally {
      beat.drop(show)
      this.#running.delete(id)
      show()
      this.#keep()
    }
  }

  #request(id: string, asked: readonly Message[]) {
    const { model, objective, privacy, wording } = this.settings.value
    // An answer without text is no turn that a template knows.
    const said = asked.filter(({ text }) => text !== '')
    const messages = said.map(({ role, text }) => ({ role, content: text }))
    return {
      input: { kind: 'chat' as const, messages },
      conversation: id,
      objective,
      privacy,
      ...(wording === 'likeliest' && { temperature: 0 }),
      ...(model !== '' && { model })
    }
  }

  #put(id: string, messages: readonly Message[]): void {
    this.list.set(this.list.value.map(old => (old.id === id ? { id, messages } : old)))
  }

  #keep(): void {
    let kept = this.list.value.filter(({ messages }) => messages.length > 0)
    let text = JSON.stringify(kept)
    while (text.length > MAX_SHELF_CHARS) {
      kept = kept.slice(0, -1)
      text = JSON.stringify(kept)
    }
    try {
      this.#shelf.setItem(SHELF_KEY, text)
    } catch {
      // The browser keeps nothing, or no more: the conversations last as long as the page, as they are seen.
    }
  }
}

/** An answer after one more event of it. */
export function afterGenerated(answer: Message, event: GenerateEvent): Message {
  switch (event.type) {
    case 'progress':
      return event.phase === 'weights'
        ? withFetched(answer, event)
        : { ...answer, note: `${PHASES[event.phase]} ${event.peer}` }
    case 'plan':
      return { ...withoutNote(answer), note: 'reading the prompt' }
    case 'prefill':
      return event.done < event.total
        ? { ...answer, note: `reading the prompt, ${event.done} of ${event.total} tokens` }
        : answer
    case 'recovery':
      return { ...answer, note: 'a device is lost; placing its layers anew' }
    case 'text':
      return { ...withoutNote(answer), text: answer.text + event.text }
    case 'done':
      return finished(answer, event.result)
    default:
      return answer
  }
}

const PHASES = { plan: 'planning with', load: 'loading on' } as const

/** How far all devices together are with the weights that they fetch. */
function withFetched(
  answer: Message,
  { peer, done, total }: Extract<GenerateEvent, { type: 'progress' }>
): Message {
  const fetched = { ...answer.fetched, [peer]: [done, total] as const }
  const all = Object.values(fetched)
  const [got, wanted] = [0, 1].map(i => all.reduce((sum, far) => sum + far[i]!, 0)) as [number, number]
  const names = Object.keys(fetched).join(', ')
  return { ...answer, fetched, note: `fetching weights, ${bytesOf(got, wanted)}, to ${names}` }
}

function finished(answer: Message, result: GenerateResult): Message {
  const { ttftMs, tpotMs, predicted, tokens, plan, recoveries } = result
  const devices = [...new Set(plan.stages.map(({ name }) => name))]
  const figures = {
    ttftMs,
    tpotMs,
    predictedTpotMs: predicted.tpotMs,
    tokens: tokens.length,
    devices,
    recoveries
  }
  const { error } = result
  const ended = { ...withoutNote(answer), text: result.text, figures }
  return error === undefined ? { ...ended, state: 'done' } : { ...ended, state: 'failed', note: error }
}

function withoutNote({ note: _, fetched: __, ...answer }: Message): Message {
  return answer
}

/** A name that nobody guesses: the KV cache of the conversation is found by it. */
function fresh(): Conversation {
  const digits = crypto.getRandomValues(new Uint8Array(16))
  return { id: Array.from(digits, digit => digit.toString(16).padStart(2, '0')).join(''), messages: [] }
}

/** What the shelf holds, as far as it is what was put there. */
function taken(shelf: Shelf): Conversation[] {
  try {
    const kept: unknown = JSON.parse(shelf.getItem(SHELF_KEY) ?? '[]')
    return Array.isArray(kept) ? kept.filter(isConversation).slice(0, MAX_CONVERSATIONS) : []
  } catch {
    // Of another program at this address, or forbidden: it begins empty, as the page shows.
    return []
  }
}

function isConversation(value: unknown): value is Conversation {
  const { id, messages } = (value ?? {}) as Partial<Conversation>
  return (
    typeof id === 'string' &&
    Array.isArray(messages) &&
    messages.every(({ role, text }) => (role === 'user' || role === 'assistant') && typeof text === 'string')
  )
}
