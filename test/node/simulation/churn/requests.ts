import { pickOf, type Random } from '../../../chaos/round.ts'
import { type AnswerNeeds, needsOf } from '../../source/simulated-answer.ts'
import type { SimulatedModel } from '../mesh.ts'

/** What a client asks, and after how many tokens it leaves, where it does. */
export interface ChurnRequest {
  needs: AnswerNeeds
  leavesAfterTokens: number | undefined
}

/** Conversations that go on: the next turn begins with all that was said. */
const CONVERSATIONS = 4
const MAX_PROMPT_TOKENS = 120

/** Draws requests; what was answered becomes the beginning of later ones. */
export class ChurnRequests {
  readonly #models: readonly SimulatedModel[]
  readonly #said = new Map<number, number[]>()

  constructor(models: readonly SimulatedModel[]) {
    this.#models = models
  }

  draw(random: Random): ChurnRequest & { answered(tokens: readonly number[]): void } {
    const whose = Math.floor(random() * CONVERSATIONS)
    const before = this.#said.get(whose) ?? []
    const fresh = Array.from({ length: 2 + Math.floor(random() * 8) }, () => Math.floor(random() * 200))
    const begins = before.length > MAX_PROMPT_TOKENS || random() < 0.3
    const prompt = begins ? fresh : [...before, ...fresh]
    const model = random() < 0.6 ? this.#models[0]! : pickOf(random, this.#models)
    const isBatch = random() < 0.2
    const isLong = random() < 0.15
    const newTokens = isLong ? 60 + Math.floor(random() * 60) : 4 + Math.floor(random() * 24)
    const needs = needsOf(model, {
      prompt,
      newTokens,
      ...(random() < 0.15 && { mostTokens: newTokens + 40 }),
      scope: String(whose),
      privacy: random() < 0.15 ? 'sealed' : 'prompt',
      standby: random() < 0.1,
      ...(isBatch && { objective: 'throughput' as const, placement: { batch: 2 } }),
      sampling: samplingOf(random)
    })
    return {
      needs,
      leavesAfterTokens: random() < 0.15 ? Math.floor(random() * newTokens) : undefined,
      answered: tokens => void this.#said.set(whose, [...prompt, ...tokens])
    }
  }
}

function samplingOf(random: Random): AnswerNeeds['sampling'] {
  const kind = random()
  const plain = { temperature: 0, topP: 1, seed: 0, topLogprobs: 0 }
  if (kind < 0.6) return plain
  const seed = Math.floor(random() * 1000)
  if (kind < 0.85) return { ...plain, temperature: 0.8, topP: 0.95, seed }
  const penalties = { repetition: 1, frequency: 0.5, presence: 0.5, window: 64 }
  return { ...plain, temperature: 0.8, seed, penalties }
}
