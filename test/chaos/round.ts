import type { GenerateRequest } from '../../node/api.ts'

/**
 * What is done to a device: `kill` it and start it again when the answer is over, `restart` it at once, `hang` it for
 * longer than suspicion takes, `pause` it for less, `unplug` it, `slow` its links, or kill the `source` itself.
 */
export type Kind = 'kill' | 'restart' | 'hang' | 'pause' | 'unplug' | 'slow' | 'source'

/** When: as the request arrives, as a peer reserves and loads, as the prompt goes through, as tokens come. */
export type Moment = 'recruit' | 'load' | 'prefill' | 'decode'

export interface Stroke {
  kind: Kind
  /** Which of the stages that there are then, in [0, 1). */
  pick: number
}

/** One answer and what is done to it, drawn before it begins. */
export interface Round {
  /** Index of the device that is prompted. */
  source: number
  request: GenerateRequest
  moment: Moment
  /** How far into the moment, in [0, 1). */
  offset: number
  /** One, or two at once. */
  strokes: Stroke[]
}

export type Random = () => number

/** Four with answers of a hundred tokens and more, and a short one. */
export const PROMPTS = [
  'Tell me a story about a robot and a lamp.',
  'Tell me a story about a girl who finds a key in the snow.',
  'Tell me a story about two friends, a boat and a storm that comes in the night, and how they find the way home.',
  'Tell me a story about an old dog, a new cat and the garden that they share.',
  'What does a thermostat do?'
]
/** Prompt and answer stay within what KV caches are reserved for (CONTEXT_TOKENS). */
const MAX_TOKENS = 160

export function drawRequest(random: Random, maxTokens = MAX_TOKENS): GenerateRequest {
  return {
    input: { kind: 'chat', messages: [{ role: 'user', content: pickOf(random, PROMPTS) }] },
    maxTokens,
    ...(random() < 0.5 ? { temperature: 0 } : { temperature: 0.8, topP: 0.95 }),
    // A few seeds, so that undisturbed twins are shared.
    seed: Math.floor(random() * 3)
  }
}

/** Half of all strokes fall while tokens come; one round in five has two. */
export function drawRound(random: Random, devices: number, kinds: readonly Kind[]): Round {
  const moment: Moment = random() < 0.55 ? 'decode' : pickOf(random, ['recruit', 'load', 'prefill'] as const)
  const first = { kind: pickOf(random, kinds), pick: random() }
  const two = random() < 0.2 && first.kind !== 'source' && first.kind !== 'slow'
  const second = {
    kind: pickOf(
      random,
      TWO.filter(kind => kinds.includes(kind))
    ),
    pick: random()
  }
  return {
    source: Math.floor(random() * devices),
    request: drawRequest(random),
    moment,
    offset: random(),
    strokes: two ? [first, second] : [first]
  }
}

const TWO: readonly Kind[] = ['kill', 'restart', 'hang', 'unplug']

export function pickOf<T>(random: Random, items: readonly T[]): T {
  return items[Math.floor(random() * items.length)]!
}
