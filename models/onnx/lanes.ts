import { type GraphBuilder, int64 } from './builder.ts'
import {
  GROUPED_ROWS,
  type GroupedLane,
  type GroupedLayer,
  groupedAttention,
  groupedLane
} from './grouped-attention.ts'
import type { Attribute, Graph } from './model.ts'

/** Attention nodes that one layer may have: a graph with more is hardly faster for as many sequences. */
export const MAX_LANES = 8

/** How many lanes a run uses, int32 (): one is the plain graph. */
export const LANES_USED = 'lanes_used'
/** Sequences whose single rows lane 0 takes, int64 (1). */
export const FOLD = 'fold'
/** Where each of the run's rows lies among all that the lanes have computed, int32 (tokens). */
export const BACK = 'back'
/** The rows that a lane takes, int32 (rows of the lane): one may occur twice. */
export const laneRowsName = (lane: number) => ofLane('lane_rows', lane)

/** Lane 0 is what a graph without lanes has, and is named as there. */
export function ofLane(name: string, lane: number): string {
  return lane === 0 ? name : `${name}@${lane}`
}

/** Lanes whose nodes a run of `used` lanes computes, of `count`. */
export function lanesComputed(used: number, count: number): number {
  return Math.min(count, 2 ** Math.ceil(Math.log2(used)))
}

/** What of a layer looks at other tokens of its sequence: in each lane by itself, with a memory of its own. */
export interface LaneMixer {
  /** What it takes of every token, (batch, tokens, width) each; '' is left out. */
  readonly packed: readonly string[]
  /** Values of a token that come out. */
  readonly width: number
  readonly memories: readonly LaneMemory[]
  /**
   * Its nodes in a lane.
   *
   * @param past names of the memories as they are, and `present` of those that come out
   * @returns the name of what comes out, (batch, tokens, width)
   */
  compute(graph: GraphBuilder, lane: number, names: LaneNames): string
}

/** What a layer remembers of the tokens before: given as `past`, it comes out as `present`. */
export interface LaneMemory {
  past: string
  present: string
  /** Its dimensions in a lane, the slots first. */
  dims(lane: number): (number | string)[]
  /** The same where it is empty. */
  none: number[]
}

export interface LaneNames {
  packed: readonly string[]
  past: readonly string[]
  present: readonly string[]
}

/** A layer's attention as one node computes it. */
export interface LaneAttention {
  /** Queries (or all three of them packed), keys and values, (batch, tokens, width) each; '' is left out. */
  packed: readonly [query: string, key: string, value: string]
  /** Heads times head size: the width of what comes out. */
  width: number
  /** Heads of the layer's cache, and their size. */
  sizes: { kvHeads: number; headSize: number }
  /** Names of past and present keys and values. */
  past: readonly string[]
  present: readonly string[]
  seqlens: string
  total: string
  /** The inputs behind these, which all lanes share. */
  shared: readonly string[]
  attributes: Record<string, Attribute>
  /** What computes it in the place of GroupQueryAttention. */
  attend?: Attend
  /** With it few rows of one sequence may be computed with query heads as rows. */
  grouped?: GroupedLayer
}

/** GroupQueryAttention, whose memories are keys and values. */
class AttentionMixer implements LaneMixer {
  readonly packed: readonly string[]
  readonly width: number
  readonly memories: readonly LaneMemory[]
  readonly #layer: LaneAttention
  readonly #groupedLane: (lane: number) => GroupedLane

  constructor(layer: LaneAttention, groupedLane: (lane: number) => GroupedLane) {
    const { packed, width, past, present, sizes } = layer
    this.#layer = layer
    this.#groupedLane = groupedLane
    this.packed = packed
    this.width = width
    const { kvHeads, headSize } = sizes
    this.memories = past.map((name, i) => ({
      past: name,
      present: present[i]!,
      dims: lane => [ofLane('slots', lane), kvHeads, ofLane('capacity', lane), headSize],
      none: [1, kvHeads, 0, headSize]
    }))
  }

  compute(graph: GraphBuilder, lane: number, { packed, past, present }: LaneNames): string {
    const { attend, grouped } = this.#layer
    const [seqlens, total] = [ofLane(this.#layer.seqlens, lane), ofLane(this.#layer.total, lane)]
    if (attend !== undefined) return attend(graph, packed, { past, presents: present, seqlens, total })
    const whole = (inner: GraphBuilder, presents: readonly string[]) =>
      this.#whole(inner, [...packed, ...past, seqlens, total], presents)
    if (grouped === undefined) return whole(graph, present)
    const shared = this.#groupedLane(lane)
    const [then_branch, else_branch] = [
      (inner: GraphBuilder, presents: readonly string[]) =>
        groupedAttention(inner, packed, grouped, shared, { past, presents }),
      whole
    ].map(compute => ({ branch: this.#branch(graph.branch(), lane, compute) }))
    const output = graph.name('attention')
    graph.node({
      op: 'If',
      domain: '',
      inputs: [shared.isGrouped],
      outputs: [output, ...present],
      attributes: { then_branch: then_branch!, else_branch: else_branch! }
    })
    return output
  }

  /** GroupQueryAttention over each query head by itself: (batch, tokens, width). */
  #whole(graph: GraphBuilder, inputs: readonly string[], presents: readonly string[]): string {
    const { shared, attributes } = this.#layer
    const output = graph.name('attention')
    graph.node({
      op: 'GroupQueryAttention',
      domain: 'com.microsoft',
      inputs: [...inputs, ...shared],
      outputs: [output, ...presents],
      attributes
    })
    return output
  }

  #branch(
    branch: GraphBuilder,
    lane: number,
    compute: (graph: GraphBuilder, presents: readonly string[]) => string
  ): Graph {
    const presents = this.memories.map(({ present }) => branch.name(present))
    const output = compute(branch, presents)
    branch.output(output, 'float32', [branch.name('batch'), branch.name('tokens'), this.width])
    presents.forEach((name, i) => {
      branch.output(name, 'float32', this.memories[i]!.dims(lane))
    })
    return branch.build(branch.name('branch'))
  }
}

/**
 * Attention of one lane: (batch, tokens, width). It appends rows to the caches that are called `past`, in place, and calls them
 * `presents`.
 */
export type Attend = (
  graph: GraphBuilder,
  packed: readonly string[],
  lane: { past: readonly string[]; presents: readonly string[]; seqlens: string; total: string }
) => string

/**
 * What lets one run compute sequences with any number of rows each: the products see all rows together, attention is
 * one node a sequence (a lane). Where a run uses one lane only, its rows go through the plain node.
 *
 * Lanes come in groups that double, 1, 1, 2, 4, each in a branch of the group before: a run of few lanes does not pay
 * for many. A lane that is not used in a branch that is computes one row against a cache of one token.
 */
export class Lanes {
  readonly count: number
  /** Whether a run may compute the query heads of a group as rows of one head. */
  readonly groupsHeads: boolean
  readonly #graph: GraphBuilder
  /** Whether more lanes are used than so many, by that number. */
  readonly #more = new Map<number, string>()
  /** What layers share whose query heads may be rows, by the size of their groups and the lane. */
  readonly #grouped = new Map<number, GroupedLane[]>()

  /** @param count of 1 to MAX_LANES; with one the graph has no lanes' branches */
  constructor(graph: GraphBuilder, count: number, groupsHeads = false) {
    if (!Number.isInteger(count) || count < 1 || count > MAX_LANES) {
      throw new RangeError(`${count} lanes are not in 1..${MAX_LANES}`)
    }
    this.count = count
    this.groupsHeads = groupsHeads
    this.#graph = graph
    if (count === 1) return
    graph.input(LANES_USED, 'int32', [])
    graph.input(FOLD, 'int64', [1])
    graph.input(BACK, 'int32', ['tokens'])
    for (let lane = 0; lane < count; lane++) {
      graph.input(laneRowsName(lane), 'int32', [ofLane('lane_tokens', lane)])
    }
    for (let used = 1; used < count; used *= 2) {
      const limit = graph.constant(
        graph.name('lanes'),
        'int32',
        [],
        new Uint8Array(Int32Array.of(used).buffer)
      )
      this.#more.set(used, graph.onnx('Greater', [LANES_USED, limit]))
    }
  }

  /** Numbers from one lane to the last. */
  from(lane: number): number[] {
    return Array.from({ length: this.count - lane }, (_, i) => lane + i)
  }

  /** Attention of all lanes: (batch, tokens, width). */
  attention(layer: LaneAttention): string {
    const { grouped } = layer
    return this.mix(new AttentionMixer(layer, lane => this.#groupedLanes(grouped!, layer)[lane]!))
  }

  #groupedLanes({ heads, kvHeads }: GroupedLayer, { seqlens, total }: LaneAttention): GroupedLane[] {
    const graph = this.#graph
    const group = heads / kvHeads
    let lanes = this.#grouped.get(group)
    if (lanes !== undefined) return lanes
    if (this.#grouped.size === 0) {
      for (const lane of this.from(0)) graph.input(ofLane(GROUPED_ROWS, lane), 'int32', [])
    }
    lanes = this.from(0).map(lane => {
      const [rows = '', ...lengths] = [GROUPED_ROWS, seqlens, total].map(name => ofLane(name, lane))
      return groupedLane(graph, group, { rows, seqlens: lengths[0]!, total: lengths[1]! })
    })
    this.#grouped.set(group, lanes)
    return lanes
  }

  /** What a layer makes of the tokens of all lanes: (batch, tokens, width). */
  mix(mixer: LaneMixer): string {
    const graph = this.#graph
    for (const lane of this.from(0)) {
      for (const { past, dims } of mixer.memories) graph.input(ofLane(past, lane), 'float32', dims(lane))
      for (const { present, dims } of mixer.memories)
        graph.output(ofLane(present, lane), 'float32', dims(lane))
    }
    const presents = mixer.memories.map(({ present }) => ofLane(present, 0))
    if (this.count === 1) return inLane(graph, mixer, mixer.packed, { lane: 0, presents }).output
    const many = graph.branch()
    const first = this.#folded(many, mixer)
    const others = this.#lanes(many, mixer, 1)
    const all = many.onnx('Concat', [first.output, ...others.outputs], { axis: 1 })
    const rows = many.onnx('Gather', [all, BACK], { axis: 1 })
    const few = graph.branch()
    const plain = inLane(few, mixer, mixer.packed, { lane: 0 })
    return this.#if(graph, mixer, 0, [
      { branch: many, output: rows, presents: [...first.presents, ...others.presents] },
      { branch: few, output: plain.output, presents: [...plain.presents, ...this.#empty(few, mixer, 1)] }
    ]).output
  }

  /** Lanes from `first` on, the later ones in branches. */
  #lanes(graph: GraphBuilder, mixer: LaneMixer, first: number): { outputs: string[]; presents: string[] } {
    const end = Math.min(2 * first, this.count)
    const own = this.from(first)
      .slice(0, end - first)
      .map(lane => inLane(graph, mixer, rowsOf(graph, mixer, lane), { lane }))
    const outputs = own.map(({ output }) => output)
    const presents = own.flatMap(one => one.presents)
    if (end === this.count) return { outputs, presents }
    const used = graph.branch()
    const deeper = this.#lanes(used, mixer, end)
    const unused = graph.branch()
    const nothing = unused.constant(unused.name('none'), 'float32', [1, 0, mixer.width], new Uint8Array(0))
    const rest = this.#if(graph, mixer, end, [
      {
        branch: used,
        output: used.onnx('Concat', deeper.outputs, { axis: 1 }),
        presents: deeper.presents
      },
      { branch: unused, output: nothing, presents: this.#empty(unused, mixer, end) }
    ])
    return { outputs: [...outputs, rest.output], presents: [...presents, ...rest.presents] }
  }

  /**
   * What one of two branches computes: the first where lanes behind `lane` are used, or behind 0 and 1 for lane 0.
   * Presents of the outermost are the graph's outputs.
   */
  #if(graph: GraphBuilder, { memories, width }: LaneMixer, from: number, branches: [Branch, Branch]): Mixed {
    const lanes = this.from(from)
    const outermost = graph === this.#graph
    const presents = lanes.flatMap(lane =>
      memories.map(({ present }) => (outermost ? ofLane(present, lane) : graph.name(present)))
    )
    const output = graph.name('mixed')
    const [then_branch, else_branch] = branches.map(({ branch, output, presents }) => {
      branch.output(output, 'float32', [branch.name('batch'), branch.name('tokens'), width])
      presents.forEach((name, i) => {
        const lane = lanes[Math.floor(i / memories.length)]!
        branch.output(name, 'float32', memories[i % memories.length]!.dims(lane))
      })
      return { branch: branch.build(branch.name('branch')) }
    })
    graph.node({
      op: 'If',
      domain: '',
      inputs: [this.#more.get(Math.max(1, from))!],
      outputs: [output, ...presents],
      attributes: { then_branch: then_branch!, else_branch: else_branch! }
    })
    return { output, presents }
  }

  /** The memories of the lanes from `first` on, where a run has none. */
  #empty(graph: GraphBuilder, { memories }: LaneMixer, first: number): string[] {
    return this.from(first).flatMap(() =>
      memories.map(({ present, none }) =>
        graph.constant(graph.name(present), 'float32', none, new Uint8Array(0))
      )
    )
  }

  /** Lane 0 takes a row of each of several neighbouring sequences, or any number of one: FOLD says how many those are. */
  #folded(graph: GraphBuilder, mixer: LaneMixer): Mixed {
    const folded = rowsOf(graph, mixer, 0).map(x => {
      if (x === '') return x
      // (1, rows, width) to (FOLD, rows of each, width).
      const width = graph.onnx('Shape', [x], { start: 2 })
      const shape = graph.onnx('Concat', [FOLD, int64(graph, [-1n]), width], { axis: 0 })
      return graph.onnx('Reshape', [x, shape])
    })
    const { output, presents } = inLane(graph, mixer, folded, { lane: 0 })
    const flat = graph.onnx('Reshape', [output, int64(graph, [1n, -1n, BigInt(mixer.width)])])
    return { output: flat, presents }
  }
}

/** What one or several lanes leave. */
interface Mixed {
  output: string
  presents: string[]
}

interface Branch extends Mixed {
  branch: GraphBuilder
}

function rowsOf(graph: GraphBuilder, { packed }: LaneMixer, lane: number): string[] {
  return packed.map(x => (x === '' ? x : graph.onnx('Gather', [x, laneRowsName(lane)], { axis: 1 })))
}

function inLane(
  graph: GraphBuilder,
  mixer: LaneMixer,
  packed: readonly string[],
  {
    lane,
    presents = mixer.memories.map(({ present }) => graph.name(present))
  }: { lane: number; presents?: string[] }
): Mixed {
  const past = mixer.memories.map(memory => ofLane(memory.past, lane))
  return { output: mixer.compute(graph, lane, { packed, past, present: presents }), presents }
}
