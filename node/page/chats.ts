import { afterGenerated, failed, stopped } from './chat-answer.ts'
import { type ChatSettings, loadFor, requestFor, settingsIn } from './chat-settings.ts'
import type { Connection } from './connection.ts'
import {
  type Conversation,
  conversationsIn,
  fresh,
  keptOf,
  MAX_CONVERSATIONS,
  type Message,
  renamed,
  textOf
} from './conversations.ts'
import { Store } from './store.ts'

/** The place in a browser where conversations outlive the page. */
export type Shelf = Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>

const SHELF_KEY = 'edgeshard.conversations'
const SETTINGS_KEY = 'edgeshard.settings'

/** The conversations of this browser. The node is sent one when it is to answer in it, and keeps none. */
export class Chats {
  readonly list: Store<readonly Conversation[]>
  readonly current: Store<string>
  readonly settings: Store<ChatSettings>
  /** A question of the open conversation that is written anew, by its number there. */
  readonly edited = new Store<number | undefined>(undefined)
  readonly #connection: Connection
  readonly #shelf: Shelf
  readonly #running = new Map<string, AbortController>()
  /** The conversation and the model that were loaded for last. */
  #loadedFor = ''

  constructor(connection: Connection, shelf: Shelf) {
    this.#connection = connection
    this.#shelf = shelf
    const kept = conversationsIn(this.#taken(SHELF_KEY))
    this.list = new Store<readonly Conversation[]>(kept.length === 0 ? [fresh()] : kept)
    this.current = new Store(this.list.value[0]!.id)
    this.settings = new Store(settingsIn(this.#taken(SETTINGS_KEY)))
  }

  get conversation(): Conversation {
    return this.list.value.find(({ id }) => id === this.current.value) ?? this.list.value[0]!
  }

  /** Begins another conversation, or goes to one that is empty still. */
  begin(): void {
    const empty = this.list.value.find(({ messages }) => messages.length === 0)
    const conversation = empty ?? fresh()
    if (empty === undefined) this.#add(conversation)
    this.open(conversation.id)
  }

  open(id: string): void {
    this.edited.set(undefined)
    this.current.set(id)
  }

  /** Names the conversation that is open; an empty name takes that back. */
  rename(title: string): void {
    const { id } = this.conversation
    this.list.set(this.list.value.map(old => (old.id === id ? renamed(old, title) : old)))
    this.#keep()
  }

  /** Forgets the conversation that is open, here and on the shelf. */
  remove(): void {
    const { id } = this.conversation
    this.stop(id)
    const left = this.list.value.filter(other => other.id !== id)
    this.list.set(left.length === 0 ? [fresh()] : left)
    this.open(this.list.value[0]!.id)
    this.#keep(id)
  }

  /** Forgets all conversations and settings, here and on the shelf. */
  forget(): void {
    for (const id of this.#running.keys()) this.stop(id)
    const conversation = fresh()
    this.list.set([conversation])
    this.open(conversation.id)
    this.settings.set(settingsIn('{}'))
    for (const key of [SHELF_KEY, SETTINGS_KEY]) this.#drop(key)
  }

  set(change: Partial<ChatSettings>): void {
    this.settings.set({ ...this.settings.value, ...change })
    this.#put(SETTINGS_KEY, JSON.stringify(this.settings.value))
  }

  /** All conversations as a file has them. */
  get exported(): string {
    return textOf(this.list.value)
  }

  /**
   * Takes in the conversations of such a file, as far as there is room beside those that are kept: none of these goes for one of
   * a file. They get names of their own: whoever wrote the file knows those in it, and could find the KV caches.
   *
   * @returns how many conversations are in the file, and how many of them were taken
   */
  import(text: string): { found: number; taken: number } {
    const found = conversationsIn(text).map(({ id: _, ...rest }) => ({ ...rest, id: fresh().id }))
    const own = this.list.value
    const kept = new Set(keptOf([...own, ...this.#othersOnShelf(), ...found]))
    const taken = found.filter(conversation => kept.has(conversation))
    if (taken.length > 0) {
      this.list.set([...taken, ...own])
      this.open(taken[0]!.id)
      this.#keep()
    }
    return { found: found.length, taken: taken.length }
  }

  /**
   * Somebody writes: where nothing was asked yet in the conversation that is open, its model is loaded meanwhile, once. If that
   * fails, the question says why.
   */
  writes(): void {
    const { id, messages } = this.conversation
    const { model, ...options } = loadFor(this.settings.value)
    const { objective, privacy } = options
    const wanted = JSON.stringify([id, model, objective, privacy])
    if (messages.length > 0 || wanted === this.#loadedFor) return
    this.#loadedFor = wanted
    this.#connection.client.load(model, options).catch(() => {
      // Nothing was asked, so there is nothing to say.
    })
  }

  /**
   * Asks in the conversation that is open, in the place of the question that is edited where one is; what comes is put there,
   * whichever is open by then.
   */
  async send(text: string): Promise<void> {
    const { id, messages } = this.conversation
    if (this.#running.has(id)) return
    const before = messages.slice(0, this.edited.value)
    this.edited.set(undefined)
    await this.#answer(id, [...before, { role: 'user', text }])
  }

  /** Asks the last question again. */
  async retry(): Promise<void> {
    const { id, messages } = this.conversation
    const last = messages.findLastIndex(({ role }) => role === 'user')
    if (last < 0 || this.#running.has(id)) return
    this.edited.set(undefined)
    await this.#answer(id, messages.slice(0, last + 1))
  }

  stop(id: string): void {
    this.#running.get(id)?.abort()
  }

  async #answer(id: string, asked: readonly Message[]): Promise<void> {
    const abort = new AbortController()
    const { signal } = abort
    this.#running.set(id, abort)
    let answer: Message = { role: 'assistant', text: '', state: 'running', note: 'asking' }
    const { beat } = this.#connection
    const show = () => this.#show(id, [...asked, answer])
    show()
    try {
      const request = requestFor(id, asked, this.settings.value)
      const events = this.#connection.client.generate(request, { signal, gatherMs: beat.intervalMs })
      for await (const event of events) {
        answer = afterGenerated(answer, event)
        beat.soon(show)
      }
    } catch (error) {
      answer = signal.aborted ? stopped(answer) : failed(answer, error)
    } finally {
      beat.drop(show)
      this.#running.delete(id)
      show()
      this.#keep()
    }
  }

  #show(id: string, messages: readonly Message[]): void {
    this.list.set(this.list.value.map(old => (old.id === id ? { ...old, messages } : old)))
  }

  /** Puts one before the others. Where they are too many, the last one goes, with its answer where that is under way. */
  #add(conversation: Conversation): void {
    const all = [conversation, ...this.list.value]
    for (const { id } of all.slice(MAX_CONVERSATIONS)) this.stop(id)
    this.list.set(all.slice(0, MAX_CONVERSATIONS))
  }

  /** Puts all on the shelf, those of other tabs behind, but for one that is `removed`. */
  #keep(removed?: string): void {
    const others = this.#othersOnShelf().filter(({ id }) => id !== removed)
    this.#put(SHELF_KEY, textOf([...this.list.value, ...others]))
  }

  /** Conversations that another tab has put on the shelf meanwhile. */
  #othersOnShelf(): Conversation[] {
    const own = new Set(this.list.value.map(({ id }) => id))
    return conversationsIn(this.#taken(SHELF_KEY)).filter(({ id }) => !own.has(id))
  }

  #taken(key: string): string {
    try {
      return this.#shelf.getItem(key) ?? ''
    } catch {
      // The browser forbids it: it begins empty, as the page shows.
      return ''
    }
  }

  #drop(key: string): void {
    try {
      this.#shelf.removeItem(key)
    } catch {
      // What the browser forbids to touch was never put there by this page.
    }
  }

  #put(key: string, text: string): void {
    try {
      this.#shelf.setItem(key, text)
    } catch {
      // The browser keeps nothing, or no more: it lasts as long as the page, as it is seen.
    }
  }
}
