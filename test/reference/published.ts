import type { Recurrence, StateSpaceSpec } from '../../models/recurrence-schema.ts'
import { recurrent } from './recurrence.ts'

/** How a family's published code (transformers, modeling_*.py) computes, in its own words; layers count from 0. */
export interface PublishedFamily {
  heads: number
  kvHeads: number
  headSize: number
  layers: number
  epsilon: number
  theta: number
  /** Values of a head that are turned, and whether partners lie side by side. */
  rotated: number
  interleaved: boolean
  isTurned: (layer: number) => boolean
  /** Frequencies of a layer are divided by it: linear scaling. */
  divisor: (layer: number) => number
  /** Tokens that a token sees. */
  window: (layer: number) => number
  bias: boolean
  /** How q_norm and k_norm lie: over each head, perhaps once it is turned, over all together, or not there. */
  queryKeyNorm: 'none' | 'head' | 'head-turned' | 'all'
  /** Names of the norms in a layer: of what goes into each part, and of what comes out. */
  norms: { attention?: string; attentionOut?: string; mlp?: string; mlpOut?: string }
  /** How the feed-forward part is a mixture of experts; absent: it is none. */
  experts?: {
    count: number
    used: number
    normalised: boolean
    /** Rows of gate and of up in one tensor with all experts, and those of down in another; else a tensor each. */
    stacked: boolean
    /** Such tensors have them as columns, and are called otherwise (Qwen3-VL's). */
    transposed?: true
    /** A factor of the weights. */
    scale?: number
    /** Only those of the best groups of neighbours are looked at: by their two highest together. */
    groups?: { count: number; used: number }
    /** Where they lie in a layer, and what the router is called there. */
    module: string
    router: string
    /** Weights are logistic, not a softmax. */
    logistic?: true
    /** Those are used that are highest once a number of their own is added, by this name in the module. */
    correction?: string
    /** Dimensions of 1 that the correction has before its own. */
    correctionRank?: 1
    /** What gate, up and down are called, where it is not that. */
    parts?: readonly [gate: string, up: string, down: string]
    /**
     * One more that computes every token: where it lies in a layer, and how many of the others' size it has; `linear`: with rows of
     * gate and of up in one tensor, as stacked ones have them.
     */
    shared?: { module: string; times: number; linear?: true }
    /** So many first layers have a dense part, those behind this one, from 0, and these. */
    dense?: number
    last?: number
    without?: readonly number[]
    /** Its size, where it is not that of a dense part. */
    size?: number
  }
  /** Mamba 2 in the place of attention, in some layers. */
  stateSpace?: { spec: StateSpaceSpec; isOf: (layer: number) => boolean }
  /** LFM2's convolution over so many tokens there. */
  shortConvolution?: { taps: number; isOf: (layer: number) => boolean }
  /** What tensors are called that others call `norm`, `embed_tokens`, `self_attn`, `o_proj`, `q_norm` and `k_norm`, and `mlp` with its three parts. */
  names?: {
    norm?: string
    embedding?: string
    attention?: string
    /** Rows of q, k and v in one tensor. */
    qkv?: string
    output?: string
    headNorms?: { q: string; k: string }
    dense?: string
    parts?: readonly [gate: string, up: string, down: string]
  }
  /** Factors: of the embedding, of what each part adds to the stream, of scores, and what logits are divided by. */
  factors?: { embedding: number; residual: number; scores: number; logits: number }
  /** No gate_proj: what up_proj makes is squared where it is above 0. */
  ungated?: true
  /** gate_up_proj instead of gate_proj and up_proj. */
  fusedGateUp: boolean
  tied: boolean
}

export type Tensors = (name: string) => Float64Array

/**
 * Log-probabilities behind each of the tokens, in float64, straight from a checkpoint's own tensors. It shares no code with
 * import or runtime: rows stay as the checkpoint has them, and all positions are computed at once.
 */
export function publishedLogProbabilities(
  family: PublishedFamily,
  tensors: Tensors,
  hiddenSize: number,
  tokens: readonly number[]
): Float64Array[] {
  const table = tensors(`model.${family.names?.embedding ?? 'embed_tokens'}.weight`)
  const { embedding = 1, logits = 1 } = family.factors ?? {}
  let x: Float64Array[] = tokens.map(id =>
    table.slice(id * hiddenSize, (id + 1) * hiddenSize).map(value => value * embedding)
  )
  for (let layer = 0; layer < family.layers; layer++) x = decoder(family, tensors, layer, x)
  const output = family.tied ? table : tensors('lm_head.weight')
  const norm = tensors(`model.${family.names?.norm ?? 'norm'}.weight`)
  return x.map(row => logSoftmax(times(output, rms(row, norm, family.epsilon)).map(value => value / logits)))
}

function decoder(f: PublishedFamily, tensors: Tensors, layer: number, x: Float64Array[]): Float64Array[] {
  const get = (name: string) => tensors(`model.layers.${layer}.${name}`)
  const normed = (row: Float64Array, name: string | undefined) =>
    name === undefined ? row : rms(row, get(`${name}.weight`), f.epsilon)
  const into = x.map(row => normed(row, f.norms.attention))
  const attended = mixed(f, get, layer, into)
  const scaled = (update: Float64Array) => update.map(value => value * (f.factors?.residual ?? 1))
  const middle = x.map((row, t) => add(row, scaled(normed(attended[t]!, f.norms.attentionOut))))
  const feed = hasExperts(f, layer) ? mixture : mlp
  return middle.map(row => add(row, scaled(normed(feed(f, get, normed(row, f.norms.mlp)), f.norms.mlpOut))))
}

/** What attention makes of each token, or what a layer has in its place. */
function mixed(f: PublishedFamily, get: Tensors, layer: number, x: Float64Array[]): Float64Array[] {
  const { stateSpace, shortConvolution } = f
  if (stateSpace?.isOf(layer)) return mamba(f, stateSpace.spec, get, x)
  if (shortConvolution?.isOf(layer)) return convolution(f, shortConvolution.taps, get, x)
  return attention(f, get, layer, x)
}

/** LFM2's (`Lfm2ShortConv`): its projection has both gates and the input in the order in which they are multiplied. */
function convolution(
  f: PublishedFamily,
  taps: number,
  get: Tensors,
  x: readonly Float64Array[]
): Float64Array[] {
  const spec: Recurrence = { kind: 'short-convolution', taps }
  const made = recurrent(
    {
      ...{ spec, hiddenSize: x[0]!.length, normEpsilon: f.epsilon, vector: () => get('conv.conv.weight') },
      project: (_, __, row) => times(get('conv.in_proj.weight'), row)
    },
    x
  )
  return made.map(row => times(get('conv.out_proj.weight'), row))
}

/** Whether the feed-forward part of a layer is a mixture of experts. */
export function hasExperts({ experts }: PublishedFamily, layer: number): boolean {
  const { dense = 0, last = Number.POSITIVE_INFINITY, without = [] } = experts ?? {}
  return experts !== undefined && layer >= dense && layer <= last && !without.includes(layer)
}

export const PARTS = ['gate_proj', 'up_proj', 'down_proj'] as const

function mixture(f: PublishedFamily, get: Tensors, x: Float64Array): Float64Array {
  const { count, used, normalised, stacked, module, router, logistic, correction } = f.experts!
  const { parts = PARTS, transposed, scale = 1 } = f.experts!
  const logits = times(get(`${module}.${router}.weight`), x)
  const shares = logistic ? logits.map(logit => 1 / (1 + Math.exp(-logit))) : logSoftmax(logits).map(Math.exp)
  const corrected = correction === undefined ? shares : add(shares, get(`${module}.${correction}`))
  const ranking = f.experts!.groups === undefined ? corrected : withinGroups(f.experts!.groups, corrected)
  const chosen = [...shares.keys()].sort((a, b) => ranking[b]! - ranking[a]!).slice(0, used)
  const whole = normalised ? chosen.reduce((sum, expert) => sum + shares[expert]!, 0) : 1
  const part = (name: string, expert: number) => {
    const all = get(`${module}.${name}.weight`)
    return all.subarray((expert * all.length) / count, ((expert + 1) * all.length) / count)
  }
  /** x (in) times an expert's matrix (in, out). */
  const turnedPart = (name: string, expert: number, row: Float64Array) => {
    if (!transposed) return undefined
    const all = get(`${module}.experts.${name}`)
    const columns = all.length / count / row.length
    const matrix = all.subarray((expert * all.length) / count, ((expert + 1) * all.length) / count)
    return Float64Array.from({ length: columns }, (_, column) =>
      row.reduce((sum, value, i) => sum + value * matrix[i * columns + column]!, 0)
    )
  }
  return chosen.reduce(
    (sum, expert) => {
      const own = (name: string) => get(`${module}.experts.${expert}.${name}.weight`)
      const both = stacked ? times(part('input_linear', expert), x) : turnedPart('gate_up_proj', expert, x)
      const gate = both?.slice(0, both.length / 2) ?? times(own(parts[0]), x)
      const up = both?.slice(both.length / 2) ?? times(own(parts[1]), x)
      const gated = gate.map((value, i) => (value / (1 + Math.exp(-value))) * up[i]!)
      const made =
        turnedPart('down_proj', expert, gated) ??
        times(stacked ? part('output_linear', expert) : own(parts[2]), gated)
      return add(
        sum,
        made.map(value => (value * shares[expert]! * scale) / whole)
      )
    },
    sharedPart(f, get, x)
  )
}

/** Experts of groups that are left out rank last. */
function withinGroups({ count, used }: { count: number; used: number }, ranking: Float64Array): Float64Array {
  const groups = split(ranking, ranking.length / count)
  const scores = groups.map(group => {
    const [first = 0, second = 0] = [...group].sort((a, b) => b - a)
    return first + second
  })
  const best = [...groups.keys()].sort((a, b) => scores[b]! - scores[a]!).slice(0, used)
  return Float64Array.from(
    groups.flatMap((group, g) =>
      [...group].map(value => (best.includes(g) ? value : Number.NEGATIVE_INFINITY))
    )
  )
}

/** What the expert that computes every token makes of it; nothing where there is none. */
function sharedPart(f: PublishedFamily, get: Tensors, x: Float64Array): Float64Array {
  const { shared } = f.experts!
  if (shared === undefined) return new Float64Array(x.length)
  if (!shared.linear) return mlp(f, get, x, shared.module)
  const both = times(get(`${shared.module}.input_linear.weight`), x)
  const up = both.slice(both.length / 2)
  return times(
    get(`${shared.module}.output_linear.weight`),
    both.slice(0, both.length / 2).map((value, i) => (value / (1 + Math.exp(-value))) * up[i]!)
  )
}

/** Granite's Mamba 2, by its tensors (`GraniteMoeHybridMambaLayer`): one projection has gate, inputs and rates. */
function mamba(
  f: PublishedFamily,
  spec: StateSpaceSpec,
  get: Tensors,
  x: readonly Float64Array[]
): Float64Array[] {
  const projection = get('mamba.in_proj.weight')
  const columns = x[0]!.length
  const rows = projection.length / columns
  const ofRates = columns * (rows - spec.heads)
  const vectors: Record<string, () => Float64Array> = {
    convolution: () => get('mamba.conv1d.weight'),
    convolution_bias: () => get('mamba.conv1d.bias'),
    rate_bias: () => get('mamba.dt_bias'),
    decay: () => get('mamba.A_log').map(value => -Math.exp(value)),
    skip: () => get('mamba.D'),
    recurrence_norm: () => get('mamba.norm.weight')
  }
  const made = recurrent(
    {
      ...{ spec, hiddenSize: columns, normEpsilon: f.epsilon, vector: name => vectors[name]!() },
      project: (name, _, row) =>
        times(name === 'rates' ? projection.subarray(ofRates) : projection.subarray(0, ofRates), row)
    },
    x
  )
  return made.map(row => times(get('mamba.out_proj.weight'), row))
}

function mlp(
  f: PublishedFamily,
  get: Tensors,
  x: Float64Array,
  module = f.names?.dense ?? 'mlp'
): Float64Array {
  const [gateName, upName, downName] = f.names?.parts ?? PARTS
  if (f.ungated) {
    const squares = times(get(`${module}.${upName}.weight`), x).map(value => Math.max(value, 0) ** 2)
    return times(get(`${module}.${downName}.weight`), squares)
  }
  const fused = f.fusedGateUp ? times(get(`${module}.gate_up_proj.weight`), x) : undefined
  const gate = fused?.slice(0, fused.length / 2) ?? times(get(`${module}.${gateName}.weight`), x)
  const up = fused?.slice(fused.length / 2) ?? times(get(`${module}.${upName}.weight`), x)
  return times(
    get(`${module}.${downName}.weight`),
    gate.map((value, i) => (value / (1 + Math.exp(-value))) * up[i]!)
  )
}

function attention(f: PublishedFamily, get: Tensors, layer: number, x: Float64Array[]): Float64Array[] {
  const { attention: module = 'self_attn', qkv } = f.names ?? {}
  const project = (part: 'q' | 'k' | 'v', row: Float64Array) => {
    if (qkv !== undefined) {
      const all = times(get(`${module}.${qkv}.weight`), row)
      const [ofQ, ofK] = [f.heads * f.headSize, f.kvHeads * f.headSize]
      return { q: all.slice(0, ofQ), k: all.slice(ofQ, ofQ + ofK), v: all.slice(ofQ + ofK) }[part]
    }
    const values = times(get(`${module}.${part}_proj.weight`), row)
    return f.bias ? add(values, get(`${module}.${part}_proj.bias`)) : values
  }
  const prepared = (part: 'q' | 'k', row: Float64Array, position: number) => {
    let values = project(part, row)
    const norm = `${module}.${f.names?.headNorms?.[part] ?? `${part}_norm`}.weight`
    if (f.queryKeyNorm === 'all') values = rms(values, get(norm), f.epsilon)
    return split(values, f.headSize).map(head => {
      const normed = f.queryKeyNorm === 'head' ? rms(head, get(norm), f.epsilon) : head
      const turned = f.isTurned(layer) ? turn(f, layer, normed, position) : normed
      return f.queryKeyNorm === 'head-turned' ? rms(turned, get(norm), f.epsilon) : turned
    })
  }
  const queries = x.map((row, t) => prepared('q', row, t))
  const keys = x.map((row, t) => prepared('k', row, t))
  const values = x.map(row => split(project('v', row), f.headSize))
  const output = get(`${module}.${f.names?.output ?? 'o_proj'}.weight`)
  return x.map((_, t) => {
    const heads = queries[t]!.flatMap((query, h) => {
      const group = Math.floor(h / (f.heads / f.kvHeads))
      const first = Math.max(0, t + 1 - f.window(layer))
      const seen = Array.from({ length: t + 1 - first }, (_, i) => first + i)
      const scores = seen.map(
        s => dot(query, keys[s]![group]!) * (f.factors?.scores ?? 1 / Math.sqrt(f.headSize))
      )
      const weights = logSoftmax(Float64Array.from(scores)).map(Math.exp)
      return Array.from({ length: f.headSize }, (_, d) =>
        seen.reduce((sum, s, i) => sum + weights[i]! * values[s]![group]![d]!, 0)
      )
    })
    return times(output, Float64Array.from(heads))
  })
}

function turn(f: PublishedFamily, layer: number, head: Float64Array, position: number): Float64Array {
  const out = head.slice()
  const half = f.rotated / 2
  for (let i = 0; i < half; i++) {
    const angle = (position * f.theta ** ((-2 * i) / f.rotated)) / f.divisor(layer)
    const [a, b] = f.interleaved ? [2 * i, 2 * i + 1] : [i, i + half]
    out[a] = head[a]! * Math.cos(angle) - head[b]! * Math.sin(angle)
    out[b] = head[b]! * Math.cos(angle) + head[a]! * Math.sin(angle)
  }
  return out
}

export function rms(x: Float64Array, weight: Float64Array, epsilon: number): Float64Array {
  const scale = 1 / Math.sqrt(dot(x, x) / x.length + epsilon)
  return x.map((value, i) => value * scale * weight[i]!)
}

/** matrix (rows, x.length) times x */
export function times(matrix: Float64Array, x: Float64Array): Float64Array {
  const columns = x.length
  return Float64Array.from({ length: matrix.length / columns }, (_, row) =>
    dot(matrix.subarray(row * columns, (row + 1) * columns), x)
  )
}

export function split(x: Float64Array, size: number): Float64Array[] {
  return Array.from({ length: x.length / size }, (_, i) => x.slice(i * size, (i + 1) * size))
}

export function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!
  return sum
}

export function add(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((value, i) => value + b[i]!)
}

export function logSoftmax(x: Float64Array): Float64Array {
  const best = Math.max(...x)
  const sum = best + Math.log(x.reduce((total, value) => total + Math.exp(value - best), 0))
  return x.map(value => value - sum)
}
