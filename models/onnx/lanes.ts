import { type GraphBuilder, int64 } from './builder.ts'
import type { Attribute } from './model.ts'

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

/** A layer's attention as one node computes it, in each lane with a cache of its own. */
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
  readonly #graph: GraphBuilder
  /** Whether more lanes are used than so many, by that number. */
  readonly #more = new Map<number, string>()

  /** @param count of 1 to MAX_LANES; with one the graph has no branches */
  constructor(graph: GraphBuilder, count: number) {
    if (!Number.isInteger(count) || count < 1 || count > MAX_LANES) {
      throw new RangeError(`${count} lanes are not in 1..${MAX_LANES}`)
    }
    this.count = count
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
    const graph = this.#graph
    for (const lane of this.from(0)) {
      for (const name of layer.past) graph.input(ofLane(name, lane), 'float32', cacheOf(layer, lane))
      for (const name of layer.present) graph.output(ofLane(name, lane), 'float32', cacheOf(layer, lane))
    }
    const presents = layer.present.map(name => ofLane(name, 0))
    if (this.count === 1) return node(graph, layer, layer.packed, { lane: 0, presents }).output
    const many = graph.branch()
    const first = this.#folded(many, layer)
    const others = this.#lanes(many, layer, 1)
    const all = many.onnx('Concat', [first.output, ...others.outputs], { axis: 1 })
    const rows = many.onnx('Gather', [all, BACK], { axis: 1 })
    const few = graph.branch()
    const plain = node(few, layer, layer.packed, { lane: 0 })
    return this.#if(graph, layer, 0, [
      { branch: many, output: rows, presents: [...first.presents, ...others.presents] },
      { branch: few, output: plain.output, presents: [...plain.presents, ...this.#empty(few, layer, 1)] }
    ]).output
  }

  /** Lanes from `first` on, the later ones in branches. */
  #lanes(
    graph: GraphBuilder,
    layer: LaneAttention,
    first: number
  ): { outputs: string[]; presents: string[] } {
    const end = Math.min(2 * first, this.count)
    const own = this.from(first)
      .slice(0, end - first)
      .map(lane => node(graph, layer, rowsOf(graph, layer, lane), { lane }))
    const outputs = own.map(({ output }) => output)
    const presents = own.flatMap(one => one.presents)
    if (end === this.count) return { outputs, presents }
    const used = graph.branch()
    const deeper = this.#lanes(used, layer, end)
    const unused = graph.branch()
    const nothing = unused.constant(unused.name('none'), 'float32', [1, 0, layer.width], new Uint8Array(0))
    const rest = this.#if(graph, layer, end, [
      {
        branch: used,
        output: used.onnx('Concat', deeper.outputs, { axis: 1 }),
        presents: deeper.presents
      },
      { branch: unused, output: nothing, presents: this.#empty(unused, layer, end) }
    ])
    return { outputs: [...outputs, rest.output], presents: [...presents, ...rest.presents] }
  }

  /**
   * What one of two branches computes: the first where lanes behind `lane` are used, or behind 0 and 1 for lane 0.
   * Presents of the outermost are the graph's outputs.
   */
  #if(graph: GraphBuilder, layer: LaneAttention, from: number, branches: [Branch, Branch]): Attended {
    const lanes = this.from(from)
    const outermost = graph === this.#graph
    const presents = lanes.flatMap(lane =>
      layer.present.map(name => (outermost ? ofLane(name, lane) : graph.name(name)))
    )
    const output = graph.name('attention')
    const [then_branch, else_branch] = branches.map(({ branch, output, presents }) => {
      branch.output(output, 'float32', [branch.name('batch'), branch.name('tokens'), layer.width])
      presents.forEach((name, i) => {
        branch.output(name, 'float32', cacheOf(layer, lanes[Math.floor(i / layer.present.length)]!))
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

  /** Keys and values of the lanes from `first` on, where a run has none. */
  #empty(graph: GraphBuilder, layer: LaneAttention, first: number): string[] {
    const { headSize, kvHeads } = layer.sizes
    return this.from(first).flatMap(() =>
      layer.present.map(name =>
        graph.constant(graph.name(name), 'float32', [1, kvHeads, 0, headSize], new Uint8Array(0))
      )
    )
  }

  /** Lane 0 takes a row of each of several neighbouring sequences, or any number of one: FOLD says how many those are. */
  #folded(graph: GraphBuilder, layer: LaneAttention): Attended {
    const folded = rowsOf(graph, layer, 0).map(x => {
      if (x === '') return x
      // (1, rows, width) to (FOLD, rows of each, width).
      const width = graph.onnx('Shape', [x], { start: 2 })
      const shape = graph.onnx('Concat', [FOLD, int64(graph, [-1n]), width], { axis: 0 })
      return graph.onnx('Reshape', [x, shape])
    })
    const { output, presents } = node(graph, layer, folded, { lane: 0 })
    const flat = graph.onnx('Reshape', [output, int64(graph, [1n, -1n, BigInt(layer.width)])])
    return { output: flat, presents }
  }
}

/** Dimensions of a layer's keys or values in a lane. */
function cacheOf({ sizes: { headSize, kvHeads } }: LaneAttention, lane: number): (number | string)[] {
  return [ofLane('slots', lane), kvHeads, ofLane('capacity', lane), headSize]
}

/** What attention of one or several lanes leaves. */
interface Attended {
  output: string
  presents: string[]
}

interface Branch extends Attended {
  branch: GraphBuilder
}

function rowsOf(graph: GraphBuilder, { packed }: LaneAttention, lane: number): string[] {
  return packed.map(x => (x === '' ? x : graph.onnx('Gather', [x, laneRowsName(lane)], { axis: 1 })))
}

function node(
  graph: GraphBuilder,
  layer: LaneAttention,
  packed: readonly string[],
  { lane, presents = layer.present.map(name => graph.name(name)) }: { lane: number; presents?: string[] }
): Attended {
  if (layer.attend !== undefined) {
    const past = layer.past.map(name => ofLane(name, lane))
    const [seqlens, total] = [ofLane(layer.seqlens, lane), ofLane(layer.total, lane)]
    return { output: layer.attend(graph, packed, { past, presents, seqlens, total }), presents }
  }
  const output = graph.name('attention')
  const own = [...layer.past, layer.seqlens, layer.total].map(name => ofLane(name, lane))
  graph.node({
    op: 'GroupQueryAttention',
    domain: 'com.microsoft',
    inputs: [...packed, ...own, ...layer.shared],
    outputs: [output, ...presents],
    attributes: layer.attributes
  })
  return { output, presents }
}
