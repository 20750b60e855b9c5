import type { GenerateRequest, LoadOptions, Objective, Privacy } from '../api.ts'
import type { Message } from './conversations.ts'

export interface ChatSettings {
  /** Name or id; empty: the node's default. */
  model: string
  objective: Objective
  privacy: Privacy
  /** `likeliest` draws no lots: the same question has the same answer. */
  wording: 'varied' | 'likeliest'
  /** 0 to 2; empty: the node's. */
  temperature: string
  /** Most tokens of an answer; empty: as many as there is room for. */
  maxTokens: string
  /** What the model is told before each conversation; empty: nothing. */
  instructions: string
}

export const DEFAULT_SETTINGS: ChatSettings = {
  model: '',
  objective: 'latency',
  privacy: 'prompt',
  wording: 'varied',
  temperature: '',
  maxTokens: '',
  instructions: ''
}

const MAX_INSTRUCTIONS_CHARS = 100_000
const MAX_NEW_TOKENS = 1_000_000

/** Settings in a text, as far as they are some; the others are as they are at first. */
export function settingsIn(text: string): ChatSettings {
  let kept: Partial<Record<keyof ChatSettings, unknown>>
  try {
    kept = JSON.parse(text) ?? {}
  } catch {
    // It is no JSON: nothing was set.
    return DEFAULT_SETTINGS
  }
  const oneOf = <T extends string>(value: unknown, all: readonly T[]): T =>
    all.find(one => one === value) ?? all[0]!
  const words = (value: unknown, maxChars: number) =>
    typeof value === 'string' ? value.slice(0, maxChars) : ''
  return {
    model: words(kept.model, 256),
    objective: oneOf(kept.objective, ['latency', 'throughput']),
    privacy: oneOf(kept.privacy, ['prompt', 'sealed']),
    wording: oneOf(kept.wording, ['varied', 'likeliest']),
    temperature: words(kept.temperature, 32),
    maxTokens: words(kept.maxTokens, 32),
    instructions: words(kept.instructions, MAX_INSTRUCTIONS_CHARS)
  }
}

/** What is asked of the node for a conversation that ends with a question. What is no number of its range is left out. */
export function requestFor(
  conversation: string,
  asked: readonly Message[],
  { model, objective, privacy, wording, temperature, maxTokens, instructions }: ChatSettings
): GenerateRequest {
  // An answer without text is no turn that a template knows.
  const said = asked.filter(({ text }) => text !== '').map(({ role, text }) => ({ role, content: text }))
  const messages = instructions.trim() === '' ? said : [{ role: 'system', content: instructions }, ...said]
  const [warmth, most] = [numberIn(temperature, 0, 2), numberIn(maxTokens, 1, MAX_NEW_TOKENS)]
  return {
    input: { kind: 'chat', messages, split: true },
    conversation,
    objective,
    privacy,
    ...(wording === 'likeliest' ? { temperature: 0 } : warmth !== undefined && { temperature: warmth }),
    ...(most !== undefined && { maxTokens: Math.floor(most) }),
    ...(model !== '' && { model })
  }
}

/** How the model of the next question is loaded. */
export function loadFor({
  model,
  objective,
  privacy,
  maxTokens
}: ChatSettings): LoadOptions & { model?: string } {
  const most = numberIn(maxTokens, 1, MAX_NEW_TOKENS)
  return {
    objective,
    privacy,
    ...(most !== undefined && { maxTokens: Math.floor(most) }),
    ...(model !== '' && { model })
  }
}

/** A number that a person has typed; undefined where it is none, or out of the range [least, most]. */
function numberIn(text: string, least: number, most: number): number | undefined {
  const value = text.trim() === '' ? Number.NaN : Number(text)
  return value >= least && value <= most ? value : undefined
}
