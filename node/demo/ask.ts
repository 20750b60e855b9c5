import type { GenerateRequest, GenerateResult, PlannedStage, Predicted, Speculate } from '../api.ts'
import { createClient } from '../client/index.ts'

/** Prompts a node over HTTP, greedily, and returns its answer; the callbacks see it arrive. */
export async function ask(
  api: string,
  {
    model,
    prompt,
    maxTokens,
    speculate,
    signal
  }: { model?: string; prompt: string; maxTokens: number; speculate?: Speculate; signal: AbortSignal },
  {
    onPlan,
    onText
  }: {
    onPlan?: (plan: { stages: PlannedStage[] }, predicted: Predicted) => void
    onText?: (text: string) => void
  } = {}
): Promise<GenerateResult> {
  const request: GenerateRequest = {
    ...(model === undefined ? {} : { model }),
    input: { kind: 'chat', messages: [{ role: 'user', content: prompt }] },
    maxTokens,
    ...(speculate && { speculate }),
    temperature: 0
  }
  for await (const event of createClient({ url: api }).generate(request, { signal })) {
    if (event.type === 'plan') onPlan?.(event.plan, event.predicted)
    if (event.type === 'text') onText?.(event.text)
    if (event.type !== 'done') continue
    if (event.result.error !== undefined) throw new Error(event.result.error)
    return event.result
  }
  throw new Error(`${api} ended its answer before it was complete`)
}
