import type { GenerateEvent } from '../../../node/api.ts'
import type { PromptableModel } from '../../../node/source/placement/catalog.ts'
import type { DeploymentRequest, Deployments } from '../../../node/source/placement/deployments.ts'
import { TokenStream } from '../../../node/source/request/token-stream.ts'
import { SimulatedMesh, type SimulatedModel, shareOf, simulatedModel } from '../simulation/mesh.ts'

export const MODEL = simulatedModel()
export const PROMPT = [5, 17, 3, 99, 42]

export type AnswerNeeds = Omit<DeploymentRequest, 'known' | 'avoid' | 'lost'>

/** A request for so many tokens of a model without a tokenizer. */
export function needsOf(model: SimulatedModel = MODEL, over: Partial<AnswerNeeds> = {}): AnswerNeeds {
  const { name, id, manifest } = model
  const prompt = over.prompt ?? PROMPT
  return {
    model: { name, id, manifest } as PromptableModel,
    prompt,
    promptTokens: prompt.length,
    newTokens: 8,
    objective: 'latency',
    privacy: 'prompt',
    placement: {},
    ends: new Set(),
    sampling: { temperature: 0, topP: 1, seed: 0, topLogprobs: 0 },
    scope: '',
    ...over
  }
}

export interface Drawn {
  tokens: number[]
  events: GenerateEvent[]
  stream: TokenStream
}

/** Draws a whole answer, and ends it. */
export async function drawAnswer(
  deployments: Deployments,
  needs: AnswerNeeds = needsOf(),
  { signal = new AbortController().signal, onToken = (_: number[]): void | Promise<void> => {} } = {}
): Promise<Drawn> {
  const stream = new TokenStream(deployments, needs, signal)
  const tokens: number[] = []
  const events: GenerateEvent[] = []
  try {
    while (tokens.length < (needs.mostTokens ?? needs.newTokens)) {
      const drawing = stream.next()
      for (;;) {
        const { done, value } = await drawing.next()
        if (done === true) {
          if (value === undefined) return { tokens, events, stream }
          tokens.push(value.id)
          break
        }
        events.push(value)
      }
      await onToken(tokens)
    }
  } finally {
    await stream.close()
  }
  return { tokens, events, stream }
}

/** Devices for a model that takes three of them, and perhaps some to spare; only the first has the model. */
export function meshOf(ids: string[], share = 0.42, ...models: SimulatedModel[]): SimulatedMesh {
  const all = models.length === 0 ? [MODEL] : models
  const mesh = new SimulatedMesh(...all)
  ids.forEach((id, at) => {
    mesh.add(id, { memoryBytes: shareOf(all[0]!, share), models: at === 0 ? all : [] })
  })
  return mesh
}
