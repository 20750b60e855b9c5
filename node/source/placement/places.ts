import type { LayerRange } from '../../../models/layers.ts'
import type { PlannedStage } from '../../api.ts'
import type { StagePlan } from '../../plan/index.ts'

/** A stage at its place: a device, or one of its processors where several of them have memory of their own. */
export type Placed = Pick<PlannedStage, 'peerId' | 'processor' | 'layers'>

/** A stage as the planner names it. */
export function stagePlanOf({ peerId, processor, layers }: Placed): StagePlan {
  return { device: peerId, ...(processor !== undefined && { processor }), layers }
}

/** A stage of the planner, as it is placed. */
export function placedOf({ device, processor, layers }: StagePlan): Placed {
  return { peerId: device, ...(processor !== undefined && { processor }), layers: layers as LayerRange }
}

/** Whether two stages are the same layers at the same place. */
export function isSamePlaced(one: Placed, other: Placed): boolean {
  return isSamePlace(one, other) && one.layers.every((layer, i) => layer === other.layers[i])
}

/** What tells places apart. */
interface At {
  peerId: string
  processor?: string | undefined
}

export function isSamePlace(one: At, other: At): boolean {
  return one.peerId === other.peerId && one.processor === other.processor
}

/** What names a place among others. */
export function placeKey({ peerId, processor }: At): string {
  return processor === undefined ? peerId : `${peerId} ${processor}`
}

/** What feeds a stage of the source that another one of its own feeds: there may be several. */
export function stageAddress({ peerId, layers: [start] }: Pick<Placed, 'peerId' | 'layers'>): string {
  return `${peerId} ${start}`
}

/**
 * Whether stages can be run one after the other. A device knows by who sends hidden states which of its stages they are for, so
 * those of another device than the source follow each other.
 */
export function isRoutable(stages: readonly StagePlan[]): boolean {
  const source = stages[0]?.device
  return stages.every(
    ({ device }, at) =>
      device === source ||
      device === stages[at - 1]?.device ||
      stages.slice(0, at).every(before => before.device !== device)
  )
}
