import { expect } from 'vitest'
import type { GenerateEvent, Move } from '../../../node/api.ts'
import type { Deployments } from '../../../node/source/placement/deployments.ts'
import { pass, played } from '../simulation/clock.ts'
import { SimulatedMesh, shareOf } from '../simulation/mesh.ts'
import { type AnswerNeeds, drawAnswer, MODEL, meshOf, needsOf } from './simulated-answer.ts'

const known = new Map<string, number[]>()

/** What a lone device draws, by the clock of a test that has stopped it: computed once. */
export async function undisturbed(needs: AnswerNeeds): Promise<number[]> {
  const { model, prompt, newTokens, mostTokens, ends, sampling, draft, grammar } = needs
  const isPlain = draft === undefined && grammar === undefined
  const key = JSON.stringify([model.id, prompt, newTokens, mostTokens, [...ends], sampling])
  const before = isPlain ? known.get(key) : undefined
  if (before !== undefined) return before
  const { deployments } = meshOf(['a'], 5).get('a').source()
  const { tokens } = await played(drawAnswer(deployments, { ...needs, standby: false }))
  if (isPlain) known.set(key, tokens)
  return tokens
}

/** `a` has the model and is slow; the others, the fastest first, have room for it several times over. */
export function roomyMesh(others: Record<string, number>, decodeMs = 60): SimulatedMesh {
  const mesh = new SimulatedMesh(MODEL)
  mesh.add('a', { memoryBytes: shareOf(MODEL, 3, 4, 1024), models: [MODEL], decodeMs, stepMs: 4 })
  for (const [id, decodeMs] of Object.entries(others)) join(mesh, id, decodeMs)
  return mesh
}

/** One more device with room for the model several times over. */
export function join(mesh: SimulatedMesh, id: string, decodeMs: number): void {
  mesh.add(id, { memoryBytes: shareOf(MODEL, 4, 4, 1024), decodeMs, stepMs: 2 * decodeMs })
}

export const movesIn = (events: GenerateEvent[]): Move[] =>
  events.flatMap(event => (event.type === 'moved' ? [event.move] : []))

/** Draws an answer, and how long each token came after the one before. */
export async function drawn(
  mesh: SimulatedMesh,
  onToken: (tokens: number[]) => void | Promise<void> = () => {},
  needs: AnswerNeeds = needsOf(MODEL, { newTokens: 150 }),
  { deployments = mesh.get('a').source().deployments, signal = new AbortController().signal } = {}
) {
  const gapsMs: number[] = []
  let lastMs = performance.now()
  const answer = await drawAnswer(deployments, needs, {
    signal,
    onToken: async tokens => {
      gapsMs.push(performance.now() - lastMs)
      lastMs = performance.now()
      await onToken(tokens)
    }
  })
  // The first token has a prompt before it.
  return { ...answer, deployments, gapsMs: gapsMs.slice(1) }
}

/** Does something when an answer has so many tokens. */
export const at = (count: number, act: () => void) => (tokens: number[]) => {
  if (tokens.length === count) act()
}

/** Ends it all, and nothing is left. */
export async function closed(mesh: SimulatedMesh, deployments: Deployments): Promise<void> {
  await played(deployments.close())
  await pass(1000)
  expect(mesh.empty).toBe(true)
}
