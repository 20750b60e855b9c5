import type { LayerProfile, NodeRecord, StageTimes } from '../../api.ts'
import { UNTESTED_SPEEDUP } from '../../constants.ts'

/**
 * A device's times of a model's layers, as far as they are believed while no answer has measured it: it is no more than
 * UNTESTED_SPEEDUP times as fast as the fastest device that this source knows by its own clock. Cores and processor are
 * claims like the times, so they count for nothing.
 *
 * @param claimed times in ms by kind of layer, as the device says
 * @param own this node's
 * @param fastest what the fastest device that was measured takes of this node's times: 1 is this node itself
 */
export function believedProfile(
  claimed: LayerProfile,
  own: LayerProfile,
  { fastest }: { fastest: number }
): LayerProfile {
  const least = (ownMs: number) => (fastest * ownMs) / UNTESTED_SPEEDUP
  const kinds = Object.entries(claimed).map(([kind, times]) => {
    const known = own[kind]
    if (known === undefined) return [kind, times] as const
    const decodeMs = Math.max(times.decodeMs, least(known.decodeMs))
    const prefillMsPerToken = Math.max(times.prefillMsPerToken, least(known.prefillMsPerToken))
    const batches = Object.entries(times.decodeMsByBatch ?? {}).map(([batch, ms]) => {
      // No batch takes less than one of its sequences alone.
      const leastMs = Math.max(decodeMs, least(known.decodeMsByBatch?.[batch] ?? 0))
      return [batch, Math.max(ms, leastMs)] as const
    })
    const decodeMsByBatch = times.decodeMsByBatch && Object.fromEntries(batches)
    const decodeMsByContext = atLeast(times.decodeMsByContext, decodeMs, known.decodeMsByContext, least)
    const prefillMsByTokens = atLeast(times.prefillMsByTokens, decodeMs, known.prefillMsByTokens, least)
    const prefillMsPerTokenByContext = atLeast(
      times.prefillMsPerTokenByContext,
      prefillMsPerToken,
      known.prefillMsPerTokenByContext,
      least
    )
    const believed = {
      decodeMs,
      prefillMsPerToken,
      ...(decodeMsByBatch && { decodeMsByBatch }),
      ...(decodeMsByContext && { decodeMsByContext }),
      ...(prefillMsByTokens && { prefillMsByTokens }),
      ...(prefillMsPerTokenByContext && { prefillMsPerTokenByContext })
    }
    return [kind, believed] as const
  })
  return Object.fromEntries(kinds)
}

/** Times by size, none of them shorter than that of the smallest, or than is believed beside this node's own. */
function atLeast(
  claimed: Readonly<Record<string, number>> | undefined,
  shortestMs: number,
  own: Readonly<Record<string, number>> | undefined,
  least: (ownMs: number) => number
): Record<string, number> | undefined {
  if (claimed === undefined) return undefined
  return Object.fromEntries(
    Object.entries(claimed).map(([tokens, ms]) => [
      tokens,
      Math.max(ms, shortestMs, least(own?.[tokens] ?? 0))
    ])
  )
}

/** What steps take stages beside their layers. */
export type StageTurns = Pick<StageTimes, 'turnMs' | 'sharedTurnMs' | 'frameMs'>

/** What is beyond is no hand-over between threads: a device that says so is not to be planned with by that. */
const MOST_TURN_MS = 20

/** A device, and what it has timed. */
type SayingTurns = Pick<NodeRecord, 'peerId' | 'stageTimes'>

/**
 * What steps take stages beside their layers as far as no answer has measured it: on a device what it says, on the source itself with
 * what its answers' tokens take it in each step.
 */
export function turnsSaid(device: SayingTurns, source: SayingTurns): StageTurns | undefined {
  if (device.peerId !== source.peerId) return believedTurns(device.stageTimes, source.stageTimes)
  if (source.stageTimes === undefined) return undefined
  const { turnMs, sharedTurnMs, frameMs, tokenMs = 0 } = source.stageTimes
  return { turnMs: turnMs + tokenMs, sharedTurnMs: sharedTurnMs + tokenMs, frameMs }
}

/**
 * What a device says that steps take stages beside their layers, as far as it is believed while no answer has measured it. One
 * that has not timed it is taken for one like this node, as with layers.
 *
 * @param own what this node has timed of itself; undefined where it has not
 */
export function believedTurns(
  claimed: StageTurns | undefined,
  own: StageTurns | undefined
): StageTurns | undefined {
  if (claimed === undefined) return own
  const within = (which: keyof StageTurns) =>
    Math.min(MOST_TURN_MS, Math.max(claimed[which] ?? 0, (own?.[which] ?? 0) / UNTESTED_SPEEDUP))
  // A device that is held to no share has time for its frames beside its layers, whatever this one has.
  const frameMs = claimed.frameMs === undefined ? {} : { frameMs: within('frameMs') }
  return { turnMs: within('turnMs'), sharedTurnMs: within('sharedTurnMs'), ...frameMs }
}

/**
 * A device's memories as far as its own figures agree: stages on all of its processors together have no more than the device, and no
 * more is free. Processors have their parts of what one node gives, however much of it is on a card (`node/processor/memories.ts`).
 */
export function believedMemories({
  memory,
  processors,
  hardware: { totalMemoryBytes }
}: Pick<NodeRecord, 'memory' | 'processors' | 'hardware'>): Pick<NodeRecord, 'memory' | 'processors'> {
  let leftBytes = totalMemoryBytes
  const believed = ({ budgetBytes, freeBytes }: NodeRecord['memory']): NodeRecord['memory'] => {
    const bytes = Math.min(budgetBytes, leftBytes)
    leftBytes -= bytes
    return { budgetBytes: bytes, freeBytes: Math.min(freeBytes, bytes) }
  }
  return {
    memory: believed(memory),
    processors: processors?.map(each =>
      each.memory === undefined ? each : { ...each, memory: believed(each.memory) }
    )
  }
}
