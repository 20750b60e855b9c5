import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import type { GenerateEvent, GenerateRequest, GenerateResult, PlannedStage, Predicted } from '../types.ts'

/** Prompts a node over HTTP, greedily, and returns its answer; the callbacks see it arrive. */
export async function ask(
  api: string,
  {
    model,
    prompt,
    maxTokens,
    signal
  }: { model?: string; prompt: string; maxTokens: number; signal: AbortSignal },
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
    temperature: 0
  }
  const response = await fetch(`${api}/api/generate`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(request),
    signal
  })
  if (!response.ok || response.body === null)
    throw new Error(`${api} answered ${response.status}: ${await response.text()}`)
  for await (const line of createInterface({ input: Readable.fromWeb(response.body as ReadableStream) })) {
    if (line === '') continue
    const event = JSON.parse(line) as GenerateEvent | { type: 'error'; error: { message: string } }
    if (event.type === 'plan') onPlan?.(event.plan, event.predicted)
    if (event.type === 'text') onText?.(event.text)
    if (event.type === 'done') return event.result
    if (event.type === 'error') throw new Error(event.error.message)
  }
  throw new Error(`${api} ended its answer before it was complete`)
}
