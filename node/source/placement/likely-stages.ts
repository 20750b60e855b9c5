import type { LayerRange } from '../../../models/layers.ts'
import type { Manifest } from '../../../models/manifest.ts'
import type { PlannedStage } from '../../api.ts'
import type { Deployment } from './deployment.ts'
import type { Planning } from './planning.ts'
import { type RepairRequest, substituteFor } from './repair.ts'
import type { Candidate } from './scenario.ts'

/** Layers that a device would have to load if one of the others died, and whose files it has not. */
export interface LikelyStage {
  peerId: string
  layers: LayerRange
  /** What of them it would have to fetch. */
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
      if (missingBytes === 0) continue
      const key = `${stage.peerId} ${stage.layers.join(' ')}`
      const losses = (found.get(key)?.losses ?? 0) + 1
      found.set(key, { ...stage, missingBytes, losses })
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
): Promise<{ peerId: string; layers: LayerRange }[]> {
  const { stages } = deployment.plan
  const substitute = await substituteFor(planning, deployment, at, request)
  if (substitute !== undefined) return [of(substitute.stage)]
  const accept = (peerId: string) => !request.avoid.has(peerId)
  const anew = await planning.solve(planning.scenario(request, { accept, memory: 'budget' }))
  if (!anew.feasible) return []
  return anew.stages
    .map(({ device, layers }) => ({ peerId: device, layers }))
    .filter(next => !stages.some(stage => isSame(stage, next)))
}

function of({ peerId, layers }: PlannedStage): { peerId: string; layers: LayerRange } {
  return { peerId, layers }
}

function isSame(
  one: { peerId: string; layers: LayerRange },
  other: { peerId: string; layers: LayerRange }
): boolean {
  return one.peerId === other.peerId && one.layers.every((layer, i) => layer === other.layers[i])
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
