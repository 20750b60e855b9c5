import type { ExpertsSpec } from '../block-schema.ts'
import { float32, type GraphBuilder, int64 } from './builder.ts'
import type { LayerWeights } from './weights.ts'

/** TopK: the smallest first, in their order. */
const ASCENDING = { axis: 0, largest: 0, sorted: 1 }

/**
 * The sum of what the experts that a router chooses for each row of x (rows, hidden) make of it, by its weights: (rows,
 * hidden).
 *
 * An expert is a branch, so that only those in use read their weights; the kernels that have all experts in one operator
 * (QMoE of ONNX Runtime 1.30) are 40 times slower on a CPU. Rows are brought into the order of experts, each takes its
 * own, and what comes out is brought back. Where there are several rows, no expert computes fewer than two: products of
 * one row add in another order, and what a row becomes must not hang on where others go.
 *
 * @param unit computes rows (n, hidden) with an expert's weights in its branch
 * @param seen what the router sees of each row, where it is not x
 */
export function routedExperts(
  graph: GraphBuilder,
  spec: ExpertsSpec,
  hiddenSize: number,
  weights: LayerWeights,
  x: string,
  unit: (branch: GraphBuilder, weights: LayerWeights, rows: string) => string,
  seen = x
): string {
  const { experts, used } = spec
  const { ids, shares } = route(graph, spec, weights, seen)
  const one = int64(graph, [1n])
  // (rows * used): each row `used` times, in the order of the experts that compute it.
  const flat = graph.onnx('Reshape', [ids, int64(graph, [-1n])])
  const all = graph.onnx('Shape', [flat])
  const order = sortedPlaces(graph, flat, all)
  const rows = graph.onnx('Div', [order, int64(graph, [BigInt(used)])])
  // A further one behind the last, which an expert with a single row takes as its second.
  const taken = graph.onnx('Concat', [rows, graph.onnx('Slice', [rows, int64(graph, [0n]), one])], {
    axis: 0
  })
  const numbers = int64(
    graph,
    Array.from({ length: experts }, (_, i) => BigInt(i))
  )
  const column = graph.onnx('Unsqueeze', [flat, one])
  const isOf = graph.onnx('Cast', [graph.onnx('Equal', [column, numbers])], { to: INT64 })
  const counts = graph.onnx('ReduceSum', [isOf, int64(graph, [0n])], { keepdims: 0 })
  const ends = graph.onnx('CumSum', [
    counts,
    graph.constant(graph.name('axis'), 'int64', [], new Uint8Array(8))
  ])
  const starts = graph.onnx('Sub', [ends, counts])
  const least = graph.onnx('Min', [graph.onnx('Shape', [x], { start: 0, end: 1 }), int64(graph, [2n])])
  const computed = graph.onnx('Max', [counts, least])
  const stops = graph.onnx('Add', [starts, computed])
  const inUse = split(graph, graph.onnx('Greater', [counts, int64(graph, [0n])]), experts)

  const outputs = Array.from({ length: experts }, (_, expert) => {
    const branch = graph.branch()
    const at = int64(branch, [BigInt(expert)])
    const of = (values: string) => branch.onnx('Gather', [values, at], { axis: 0 })
    const own = branch.onnx('Slice', [taken, of(starts), of(stops)])
    const inputs = branch.onnx('Gather', [x, own], { axis: 0 })
    const made = unit(branch, weights.slice(branch, expert, experts), inputs)
    const output = branch.onnx('Slice', [made, int64(branch, [0n]), of(counts)])
    const unused = graph.branch()
    const nothing = unused.constant(unused.name('none'), 'float32', [0, hiddenSize], new Uint8Array(0))
    branch.output(output, 'float32', [branch.name('rows'), hiddenSize])
    unused.output(nothing, 'float32', [unused.name('rows'), hiddenSize])
    return graph.onnx('If', [inUse[expert]!], {
      then_branch: { branch: branch.build(branch.name('expert')) },
      else_branch: { branch: unused.build(unused.name('unused')) }
    })
  })
  const made = graph.onnx('Concat', outputs, { axis: 0 })
  const back = graph.onnx('Gather', [made, sortedPlaces(graph, order, all)], { axis: 0 })
  const ofRows = graph.onnx('Reshape', [back, int64(graph, [-1n, BigInt(used), BigInt(hiddenSize)])])
  // (rows, 1, used) times (rows, used, hidden): the same product for each row, however many there are.
  const sums = graph.onnx('MatMul', [graph.onnx('Unsqueeze', [shares, one]), ofRows])
  return graph.onnx('Reshape', [sums, int64(graph, [-1n, BigInt(hiddenSize)])])
}

/** TensorProto.DataType */
const [INT64, BOOL] = [7, 9]

/** Which experts compute each row, (rows, used) by falling score, and the share that each has in the row's sum. */
function route(
  graph: GraphBuilder,
  { experts, used, router, bias, corrected, normalised, groups, beside }: ExpertsSpec,
  weights: LayerWeights,
  x: string
): { ids: string; shares: string } {
  const product = graph.contrib('FusedMatMul', [x, weights.constant('router')], { transB: 1 })
  const scores = bias ? graph.onnx('Add', [product, weights.constant('router_bias')]) : product
  const all =
    router === 'softmax' ? graph.onnx('Softmax', [scores], { axis: 1 }) : graph.onnx('Sigmoid', [scores])
  const weighed = corrected ? graph.onnx('Add', [all, weights.constant('router_correction')]) : all
  // TopK of ONNX Runtime 1.30 divides by the number of rows, which ends the process where a step's rows skip the head: one more.
  const spare = graph.constant(graph.name('spare'), 'float32', [1, experts], new Uint8Array(4 * experts))
  const corrections = graph.onnx('Concat', [weighed, spare], { axis: 0 })
  const ranked = groups === undefined ? corrections : ofBestGroups(graph, experts, groups, corrections)
  const [highest, ids] = top(graph, ranked, used).map(found =>
    graph.onnx('Slice', [found, int64(graph, [0n]), int64(graph, [-1n]), int64(graph, [0n])])
  ) as [string, string]
  let shares = corrected ? graph.onnx('GatherElements', [all, ids], { axis: 1 }) : highest
  if (normalised) {
    const sums = graph.onnx('ReduceSum', [shares, int64(graph, [1n])], { keepdims: 1 })
    shares = graph.onnx('Div', [shares, sums])
  }
  if (beside) {
    const scales = graph.onnx('Gather', [weights.constant('router_scale'), ids], { axis: 0 })
    shares = graph.onnx('Mul', [shares, scales])
  }
  return { ids, shares }
}

/** What experts are ranked by, (rows, experts), without those of groups that are left out: they rank below all. */
function ofBestGroups(
  graph: GraphBuilder,
  experts: number,
  { count, used, score }: NonNullable<ExpertsSpec['groups']>,
  ranked: string
): string {
  const dims = [-1n, BigInt(count), BigInt(experts / count)]
  const inGroups = graph.onnx('Reshape', [ranked, int64(graph, dims)])
  const [, best] = top(graph, groupScores(graph, score, inGroups), used)
  const numbers = Array.from({ length: count }, (_, i) => BigInt(i))
  // (rows, used, 1) beside (count): which of the groups are among the best, (rows, count, 1).
  const column = graph.onnx('Unsqueeze', [best, int64(graph, [2n])])
  const isBest = graph.onnx('Cast', [graph.onnx('Equal', [column, int64(graph, numbers)])], { to: INT64 })
  const marks = graph.onnx('ReduceSum', [isBest, int64(graph, [1n])], { keepdims: 0 })
  const taken = graph.onnx('Cast', [graph.onnx('Unsqueeze', [marks, int64(graph, [2n])])], { to: BOOL })
  const kept = graph.onnx('Where', [taken, inGroups, float32(graph, Number.NEGATIVE_INFINITY)])
  return graph.onnx('Reshape', [kept, int64(graph, [-1n, BigInt(experts)])])
}

/** How good groups (rows, count, experts of each) are: (rows, count). */
function groupScores(
  graph: GraphBuilder,
  score: NonNullable<ExpertsSpec['groups']>['score'],
  inGroups: string
): string {
  const last = int64(graph, [2n])
  if (score === 'highest') return graph.onnx('ReduceMax', [inGroups, last], { keepdims: 0 })
  const [two] = top(graph, inGroups, 2, 2)
  return graph.onnx('ReduceSum', [two, last], { keepdims: 0 })
}

/** The highest values along an axis, and where they are. */
function top(graph: GraphBuilder, values: string, count: number, axis = 1): [values: string, places: string] {
  const [highest, places] = [graph.name('highest'), graph.name('places')]
  graph.node({
    op: 'TopK',
    domain: '',
    inputs: [values, int64(graph, [BigInt(count)])],
    outputs: [highest, places],
    attributes: { axis }
  })
  return [highest, places]
}

/** Where the values (count) lie that come first, second and so on; of equal ones, in their order. */
function sortedPlaces(graph: GraphBuilder, values: string, count: string): string {
  const [sorted, places] = [graph.name('sorted'), graph.name('places')]
  graph.node({
    op: 'TopK',
    domain: '',
    inputs: [values, count],
    outputs: [sorted, places],
    attributes: ASCENDING
  })
  return places
}

function split(graph: GraphBuilder, values: string, count: number): string[] {
  const outputs = Array.from({ length: count }, () => graph.name('in_use'))
  graph.node({
    op: 'Split',
    domain: '',
    inputs: [values],
    outputs,
    attributes: { axis: 0, num_outputs: count }
  })
  return outputs
}
