import { cacheSizes } from '../blocks.ts'
import type { ModelShape } from '../manifest.ts'
import { POSITIONS, pastName, seqlensName, totalName, windowsIn } from '../onnx/attention.ts'
import { GROUPED_ROWS, largestGroup } from '../onnx/grouped-attention.ts'
import { BACK, FOLD, LANES_USED, laneRowsName, lanesComputed, ofLane } from '../onnx/lanes.ts'
import { pastStateName } from '../onnx/recurrence.ts'
import type { Tensor } from '../onnx/session.ts'
import { NO_COPY } from '../onnx/shard-graph.ts'
import { attends, stateTensors } from '../recurrence.ts'
import { groupsHeads } from './grouped-rows.ts'
import { type Constant, mainTensor, type Processor } from './processor.ts'
import type { ShardExecutor } from './shard-executor.ts'
import type { RunTensors, SlotTensors } from './slot-tensors.ts'

/** What a lane computes in a run of several. */
export interface Lane {
  /** Several of a row each in lane 0 only; they are placed already. */
  slots: SlotTensors
  /** The run's row that each of the lane's rows is. One may occur twice, and a row for nobody be any. */
  rows: readonly number[]
  /** Which of the lane's rows are results, at which row of the run. */
  results: readonly { row: number; of: number }[]
}

/**
 * Feeds and fetches of a run of several lanes; the caller adds input and output.
 *
 * @param positions of the run's rows
 */
export function laneRun(
  { lanes: count, unusedLanes }: Pick<ShardExecutor, 'lanes' | 'unusedLanes'>,
  lanes: readonly Lane[],
  positions: readonly number[]
): RunTensors {
  const first = lanes[0]!.slots
  const tensors: RunTensors = { feeds: { ...unusedLanes, ...first.rotary }, fetches: { [NO_COPY]: null } }
  const { feeds } = tensors
  if (first.takesPositions) {
    const all = BigInt64Array.from(positions, position => BigInt(position))
    feeds[POSITIONS] = mainTensor(all, [1, positions.length])
  }
  const back = new Int32Array(positions.length)
  let computed = 0
  for (let lane = 0; lane < lanesComputed(lanes.length, count); lane++) {
    const used = lanes[lane]
    if (used === undefined) {
      computed++
      continue
    }
    used.slots.takeLane(tensors, lane)
    feeds[laneRowsName(lane)] = mainTensor(Int32Array.from(used.rows), [used.rows.length])
    for (const { row, of } of used.results) back[of] = computed + row
    computed += used.rows.length
  }
  feeds[LANES_USED] = mainTensor(Int32Array.of(lanes.length), [])
  feeds[FOLD] = mainTensor(BigInt64Array.of(BigInt(first.batch)), [1])
  feeds[BACK] = mainTensor(back, [back.length])
  return tensors
}

/** What a run of one lane is given for those behind it: a cache of one token, a state of none, and a row if it has to be. */
export async function unusedLanes(
  processor: Processor,
  shape: ModelShape,
  layers: readonly number[],
  lanes: number
): Promise<{ feeds: Record<string, Tensor>; constants: Constant[] }> {
  const constants: Constant[] = []
  if (lanes === 1) return { feeds: {}, constants }
  const one = (value: number, dims: number[]) => mainTensor(Int32Array.of(value), dims)
  const feeds: Record<string, Tensor> = {
    [LANES_USED]: one(1, []),
    [FOLD]: mainTensor(BigInt64Array.of(1n), [1]),
    [BACK]: one(0, [1])
  }
  for (let lane = 0; lane < lanes; lane++) feeds[laneRowsName(lane)] = one(0, [1])
  const attending = layers.filter(layer => attends(shape, layer))
  const groups = groupsHeads(processor, shape) && largestGroup(shape, layers) > 1
  for (let lane = 1; lane < lanes; lane++) {
    if (groups) feeds[ofLane(GROUPED_ROWS, lane)] = one(0, [])
    for (const window of windowsIn(shape, attending)) {
      feeds[ofLane(seqlensName(window), lane)] = one(0, [1])
      feeds[ofLane(totalName(window), lane)] = one(1, [])
    }
  }
  const zeros = new Map<string, Tensor>()
  for (const layer of layers) {
    for (const { part, dims } of stateTensors(shape, layer)) {
      const key = dims.join()
      if (!zeros.has(key)) {
        const data = new Float32Array(dims.reduce((product, n) => product * n, 1))
        const state = await processor.constant(data, [1, ...dims])
        constants.push(state)
        zeros.set(key, state.tensor)
      }
      for (let lane = 1; lane < lanes; lane++)
        feeds[ofLane(pastStateName(part, layer), lane)] = zeros.get(key)!
    }
  }
  for (const layer of attending) {
    const { heads, ...sizes } = cacheSizes(shape, layer)
    for (const part of ['key', 'value'] as const) {
      if (sizes[part] === 0) continue
      const cache = await processor.constant(new Float32Array(heads * sizes[part]), [
        1,
        heads,
        1,
        sizes[part]
      ])
      constants.push(cache)
      for (let lane = 1; lane < lanes; lane++) feeds[ofLane(pastName(part, layer), lane)] = cache.tensor
    }
  }
  return { feeds, constants }
}
