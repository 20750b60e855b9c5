import {
  POSITIONS,
  pastName,
  presentName,
  rotaryName,
  seqlensName,
  takesPositions,
  totalName,
  usedTurnings,
  windowsIn
} from '../onnx/attention.ts'
import { GROUPED_ROWS } from '../onnx/grouped-attention.ts'
import { ofLane } from '../onnx/lanes.ts'
import type { Tensor } from '../onnx/session.ts'
import { NO_COPY } from '../onnx/shard-graph.ts'
import type { KvCache } from './kv-cache.ts'
import { mainTensor } from './processor.ts'
import type { ShardExecutor } from './shard-executor.ts'

/** What a run is given: its inputs, and the memory that its outputs go to. */
export interface RunTensors {
  readonly feeds: Record<string, Tensor>
  readonly fetches: Record<string, Tensor | null>
}

/**
 * The feeds and fetches of runs over neighbouring slots of a KV cache, made once: a run changes the numbers behind the
 * tensors, not the tensors. The caller adds input and output. Slots with states are run one by one.
 */
export class SlotTensors implements RunTensors {
  readonly feeds: Record<string, Tensor>
  readonly fetches: Record<string, Tensor | null> = { [NO_COPY]: null }
  readonly batch: number
  /** Cosines and sines of the layers' turnings, which all lanes of a run share. */
  readonly rotary: Record<string, Tensor> = {}
  /** Whether runs are given the positions of their tokens. */
  readonly takesPositions: boolean = false
  /** Names in lane 0, and what is given to the run under them. */
  readonly #fed: [name: string, tensor: Tensor][] = []
  readonly #fetched: [name: string, tensor: Tensor][] = []
  readonly #cache: KvCache
  readonly #start: number
  readonly #shard: Pick<ShardExecutor, 'grouped'>
  /** Rows that are computed with query heads as rows, where the graph takes their number. */
  readonly #groupedRows: Int32Array | undefined
  readonly #groupsFrom: number | undefined
  /** Of each window of the layers: tokens that each slot's cache has after the run, less one (batch), and the largest plus one. */
  readonly #lengths: { window: number | undefined; seqlens: Int32Array; total: Int32Array }[] = []
  /** Positions of the tokens of a decode step, where the graph takes them: (batch, 1). */
  readonly #positions: BigInt64Array | undefined
  readonly #decodePositions: Tensor | undefined

  /**
   * @param slots half-open range of the cache's slots.
   * @param groupsFrom tokens from which on query heads may be computed as rows. @default where that is faster
   */
  constructor(
    shard: Pick<ShardExecutor, 'manifest' | 'rotary' | 'unusedLanes' | 'grouped'>,
    cache: KvCache,
    [start, end]: readonly [start: number, end: number],
    groupsFrom?: number
  ) {
    const { shape } = shard.manifest
    this.feeds = { ...shard.unusedLanes }
    this.batch = end - start
    this.#cache = cache
    this.#start = start
    this.#shard = shard
    this.#groupsFrom = groupsFrom
    const layers = cache.view(start, end)
    for (const { layer, ...tensors } of layers) {
      for (const part of ['key', 'value'] as const) {
        const tensor = tensors[part]
        if (tensor === undefined) continue
        // The same memory as past and present: the run appends to it in place.
        this.#fed.push([pastName(part, layer), tensor])
        this.#fetched.push([presentName(part, layer), tensor])
      }
    }
    for (const { past, present, tensor } of this.batch === 1 ? cache.statesOf(start) : []) {
      // The same, too: the run changes it in place.
      this.#fed.push([past, tensor])
      this.#fetched.push([present, tensor])
    }
    this.takeLane(this, 0)
    if (layers.length === 0) return
    const numbers = layers.map(({ layer }) => layer)
    for (const { number } of usedTurnings(shape, numbers)) {
      const { cos, sin } = shard.rotary(number)
      this.rotary[rotaryName('cos', number)] = cos
      this.rotary[rotaryName('sin', number)] = sin
    }
    Object.assign(this.feeds, this.rotary)
    for (const window of windowsIn(shape, numbers)) {
      const [seqlens, total] = [new Int32Array(this.batch), new Int32Array(1)]
      this.#lengths.push({ window, seqlens, total })
      this.#fed.push([seqlensName(window), mainTensor(seqlens, [this.batch])])
      this.#fed.push([totalName(window), mainTensor(total, [])])
    }
    if (shard.grouped !== undefined) {
      this.#groupedRows = new Int32Array(1)
      this.#fed.push([GROUPED_ROWS, mainTensor(this.#groupedRows, [])])
    }
    this.takeLane(this, 0)
    this.takesPositions = takesPositions(shape, numbers)
    if (!this.takesPositions) return
    this.#positions = new BigInt64Array(this.batch)
    this.#decodePositions = mainTensor(this.#positions, [this.batch, 1])
  }

  /** Makes these slots what lane `lane` of a run computes. */
  takeLane({ feeds, fetches }: RunTensors, lane: number): void {
    for (const [name, tensor] of this.#fed) feeds[ofLane(name, lane)] = tensor
    for (const [name, tensor] of this.#fetched) fetches[ofLane(name, lane)] = tensor
  }

  /** Says where the next run's tokens go: `tokens` of them from `positions[i]` on in slot i. */
  place(positions: readonly number[], tokens: number): void {
    for (const { window, seqlens, total } of this.#lengths) {
      total[0] = 0
      for (let i = 0; i < this.batch; i++) {
        const length = positions[i]! + tokens - this.#cache.firstOf(window, this.#start + i)
        seqlens[i] = length - 1
        total[0] = Math.max(total[0]!, length)
      }
    }
    if (this.#groupedRows !== undefined && this.#shard.grouped !== undefined) {
      const lane = { position: positions[0]!, rows: tokens, capacity: this.#cache.maxTokens }
      this.#groupedRows[0] = this.batch === 1 ? this.#shard.grouped.of(lane, this.#groupsFrom) : 0
    }
    if (this.#positions === undefined || this.#decodePositions === undefined) return
    if (tokens === 1) {
      for (let i = 0; i < this.batch; i++) this.#positions[i] = BigInt(positions[i]!)
      this.feeds[POSITIONS] = this.#decodePositions
    } else {
      const count = this.batch * tokens
      const all = BigInt64Array.from({ length: count }, (_, i) =>
        BigInt(positions[Math.floor(i / tokens)]! + (i % tokens))
      )
      this.feeds[POSITIONS] = mainTensor(all, [this.batch, tokens])
    }
  }
}
