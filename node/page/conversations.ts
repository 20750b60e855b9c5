/** What the page knows of conversations: what is in them, and what of it outlives the page. */

export interface Message {
  role: 'user' | 'assistant'
  text: string
  /** What the model thought before it, where it says so apart. */
  thought?: string
  /** How far an answer is; a question has none. */
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
  /** What the plans in force said of a token. */
  predictedTpotMs: number
  tokens: number
  devices: string[]
  recoveries: number
}

export interface Conversation {
  id: string
  /** As a person has named it; absent: its first question stands for it. */
  title?: string
  messages: readonly Message[]
}

export const MAX_CONVERSATIONS = 30
/** Characters of what is kept, or taken from a file: a browser keeps some 5 million for one address. */
export const MAX_KEPT_CHARS = 2_000_000
const MAX_MESSAGES = 2_000
const MAX_TITLE_CHARS = 200
const MAX_DEVICES = 256

/** A name that nobody guesses: the KV cache of the conversation is found by it. */
export function fresh(messages: readonly Message[] = []): Conversation {
  const digits = crypto.getRandomValues(new Uint8Array(16))
  return { id: Array.from(digits, digit => digit.toString(16).padStart(2, '0')).join(''), messages }
}

/** What a person finds it by. */
export function titleOf({ title, messages }: Conversation): string {
  return title ?? messages[0]?.text ?? 'new conversation'
}

/**
 * The conversations that are kept of these, in their order: those that have messages, as long as there is room. One that is too
 * large for what is left takes no other one's place.
 */
export function keptOf(conversations: readonly Conversation[]): Conversation[] {
  let chars = '[]'.length
  const fitting = conversations.filter(conversation => {
    if (conversation.messages.length === 0) return false
    const own = JSON.stringify(conversation).length + ','.length
    if (chars + own > MAX_KEPT_CHARS) return false
    chars += own
    return true
  })
  return fitting.slice(0, MAX_CONVERSATIONS)
}

/** The text that is kept of conversations. */
export function textOf(conversations: readonly Conversation[]): string {
  return JSON.stringify(keptOf(conversations))
}

/** The conversations in a text, as far as it has some: anybody may have written it. Fields that are not known are left out. */
export function conversationsIn(text: string): Conversation[] {
  if (text.length > 2 * MAX_KEPT_CHARS) return []
  try {
    const kept: unknown = JSON.parse(text)
    if (!Array.isArray(kept)) return []
    return kept
      .slice(0, MAX_CONVERSATIONS)
      .map(conversationOf)
      .filter(conversation => conversation !== undefined)
  } catch {
    // It is no JSON: no conversations are in it, as whoever asked is told.
    return []
  }
}

type Fields = Record<string, unknown>

function fieldsOf(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null ? (value as Fields) : undefined
}

function conversationOf(value: unknown): Conversation | undefined {
  const { id, title, messages } = fieldsOf(value) ?? {}
  if (typeof id !== 'string' || !/^[0-9a-f]{32}$/.test(id) || !Array.isArray(messages)) return undefined
  const known = messages.slice(0, MAX_MESSAGES).map(messageOf)
  if (known.some(message => message === undefined)) return undefined
  const named = typeof title === 'string' && title !== '' && { title: title.slice(0, MAX_TITLE_CHARS) }
  return { id, ...named, messages: known as Message[] }
}

function messageOf(value: unknown): Message | undefined {
  const { role, text, thought, state, note, figures } = fieldsOf(value) ?? {}
  if ((role !== 'user' && role !== 'assistant') || typeof text !== 'string') return undefined
  if (role === 'user') return { role, text }
  const known = figuresOf(figures)
  return {
    role,
    text,
    ...(typeof thought === 'string' && thought !== '' && { thought }),
    // One that was under way when the page was left is so no more.
    state: state === 'done' || state === 'failed' ? state : 'stopped',
    ...(typeof note === 'string' && state === 'failed' && { note }),
    ...(known !== undefined && { figures: known })
  }
}

function figuresOf(value: unknown): Figures | undefined {
  const { ttftMs, tpotMs, predictedTpotMs, tokens, devices, recoveries } = fieldsOf(value) ?? {}
  const numbers = { ttftMs, tpotMs, predictedTpotMs, tokens, recoveries }
  if (!Object.values(numbers).every(number => Number.isFinite(number))) return undefined
  if (!Array.isArray(devices) || devices.length > MAX_DEVICES) return undefined
  if (!devices.every(device => typeof device === 'string')) return undefined
  return { ...(numbers as Record<keyof typeof numbers, number>), devices }
}

/** A conversation under another name, or under none again. */
export function renamed({ title: _, ...conversation }: Conversation, title: string): Conversation {
  const short = title.trim().slice(0, MAX_TITLE_CHARS)
  return short === '' ? conversation : { ...conversation, title: short }
}
