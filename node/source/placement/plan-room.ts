import { leaseBytes, workingBytes } from '../../../models/runtime/memory.ts'
import {
  CONTEXT_ROOM_FACTOR,
  CONTEXT_STEP_TOKENS,
  LATENCY_SLOTS,
  LATENCY_SLOTS_FACTOR
} from '../../constants.ts'
import type { Plan, Refusal } from '../../plan/index.ts'
import type { PlacementNeeds } from './planning.ts'

/** What a plan makes room for in KV caches. */
export interface Room {
  /** Sequences at once, and tokens of each. */
  slots: number
  contextTokens: number
}

/** The room of one sequence, as long as the request may be. */
export function leastRoom(needs: PlacementNeeds): Room {
  return { slots: 1, contextTokens: contextTokensFor(needs) }
}

/**
 * A plan for latency with room for several sequences, and for a conversation that grows, where it is as good as one
 * without; the planner's batch otherwise.
 */
export async function roomy(
  needs: PlacementNeeds,
  planWith: (room: Room) => Promise<Plan | Refusal>
): Promise<{ result: Plan | Refusal; room: Room }> {
  const room = leastRoom(needs)
  const result = await planWith(room)
  if (!result.feasible) return { result, room }
  const { contextTokens } = room
  if (result.objective === 'throughput') return { result, room: { slots: result.batch, contextTokens } }
  const { contextLength } = needs.model.manifest.shape
  for (const wide of [
    { slots: LATENCY_SLOTS, contextTokens: Math.min(contextLength, CONTEXT_ROOM_FACTOR * contextTokens) },
    { slots: LATENCY_SLOTS, contextTokens }
  ]) {
    const other = await planWith(wide)
    const fast =
      other.feasible && other.predicted.requestMs <= LATENCY_SLOTS_FACTOR * result.predicted.requestMs
    if (fast) return { result: other, room: wide }
  }
  return { result, room }
}

/** Whether a device computes all of it on the processor that it uses: the one beside that is slower. */
export function fitsWhole(needs: PlacementNeeds, budgetBytes: number): boolean {
  const { manifest } = needs.model
  const { slots, contextTokens: maxTokens } = leastRoom(needs)
  const whole: [number, number] = [0, manifest.layers.length]
  const { weightBytes, ownBytes } = leaseBytes(manifest, whole, { slots, maxTokens })
  // A plan leaves room for a second stage.
  return weightBytes + ownBytes + workingBytes(manifest, whole, { slots, maxTokens }) <= budgetBytes
}

/** Tokens of each sequence that KV caches are reserved for: rounded up, so that the next, longer request still fits. */
function contextTokensFor({ model, promptTokens, newTokens, contextTokens = 0 }: PlacementNeeds): number {
  const steps = Math.ceil(Math.max(contextTokens, promptTokens + newTokens) / CONTEXT_STEP_TOKENS)
  return Math.min(model.manifest.shape.contextLength, steps * CONTEXT_STEP_TOKENS)
}
