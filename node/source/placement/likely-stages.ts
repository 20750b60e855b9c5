import type { LayerRange } from '../../../models/layers.ts'
import type { Manifest } from '../../../models/manifest.ts'
import type { Candidate } from './candidate.ts'
import type { Deployment } from './deployment.ts'
import { isSamePlaced, type Placed, placedOf } from './places.ts'
import type { Planning } from './planning.ts'
import { type RepairRequest, substituteFor } from './repair.ts'

/** Layers that a device would have to load if one of the others died. */
export interface LikelyStage {
  peerId: string
  layers: LayerRange
  /** What of their files it would have to fetch. */
  missingBytes: number
  /** How many of the deployment's devices it would be loaded for, each dying alone. */
  losses: number
}

/**
 * What the spares of a deployment would need most likely: for each of its devices but this one, what repair would do, or where the
 * model would be placed anew, if that device died now.
 *
 * @returns the layers that serve most losses first, and of these the fewest bytes
 */
export async function likelyStages(
  planning: Planning,
  deployment: Pick<Deployment, 'plan' | 'slots' | 'contextTokens'>,
  request: RepairRequest
): Promise<LikelyStage[]> {
  const { stages } = deployment.plan
  const sourceId = planning.candidates().source.record.peerId
  const found = new Map<string, LikelyStage>()
  for (const [at, { peerId }] of stages.entries()) {
    if (peerId === sourceId) continue
    const avoid = new Set([...request.avoid, peerId])
    for (const stage of await stagesWithout(planning, deployment, at, { ...request, avoid })) {
      const candidate = planning.candidate(stage.peerId)
      if (candidate === undefined || stage.peerId === sourceId) continue
      const missingBytes = missingBytesOf(request.model, candidate, stage.layers)
      const key = `${stage.peerId} ${stage.layers.join(' ')}`
      const losses = (found.get(key)?.losses ?? 0) + 1
      found.set(key, { peerId: stage.peerId, layers: stage.layers, missingBytes, losses })
    }
  }
  return [...found.values()].sort((a, b) => b.losses - a.losses || a.missingBytes - b.missingBytes)
}

/** What would be loaded anew if stage `at` died. */
async function stagesWithout(
  planning: Planning,
  deployment: Pick<Deployment, 'plan' | 'slots' | 'contextTokens'>,
  at: number,
  request: RepairRequest
): Promise<Placed[]> {
  const { stages } = deployment.plan
  // With a device that has several all of them are lost.
  const isOnly = stages.filter(({ peerId }) => peerId === stages[at]!.peerId).length === 1
  const substitute = isOnly ? await substituteFor(planning, deployment, at, request) : undefined
  if (substitute !== undefined) return [substitute.stage]
  const accept = (peerId: string) => !request.avoid.has(peerId)
  const anew = await planning.solve(planning.scenario(request, { accept, memory: 'budget' }))
  if (!anew.feasible) return []
  return anew.stages.map(placedOf).filter(next => !stages.some(stage => isSamePlaced(stage, next)))
}

/** Bytes of the files in a range that a device does not say it has. */
function missingBytesOf(
  { id, manifest }: { id: string; manifest: Manifest },
  { record }: Candidate,
  [start, end]: LayerRange
): number {
  const held = record.models.find(model => model.id === id)?.layers ?? []
  const isHeld = (layer: number) => held.some(([from, to]) => from <= layer && layer < to)
  return manifest.layers
    .slice(start, end)
    .reduce((sum, { bytes }, i) => sum + (isHeld(start + i) ? 0 : bytes), 0)
}
