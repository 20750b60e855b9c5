import type { UnitSpec } from '../../models/block-schema.ts'
import { layerKind } from '../../models/layers.ts'
import type { Block, RopeSpec } from '../../models/manifest.ts'
import { distanceFromTie, type ExactRounding, roundInput } from './products.ts'
import { recurrent } from './recurrence.ts'
import type { Matrix, ReferenceWeights } from './weights.ts'

/** What a forward pass computes with: the weights, and how products with weights in blocks treat their input. */
interface Pass {
  weights: ReferenceWeights
  rounding: ExactRounding
  /** For each position, how near to a tie an input was that it rounded, in steps (products.ts). */
  ties: Float64Array
}

/** What float64 makes of T tokens. */
export interface Reference {
  /** T vectors (vocabulary). */
  logits: Float64Array[]
  /**
   * Of each position, how near to a tie the nearest input was on which its logits depend. Where it is very near, a
   * computation in float32 may round that input to the other step, and everything behind it is another.
   */
  ties: Float64Array
}

/**
 * A Llama's forward pass in float64, and that of others whose attention differs by block, written from the papers and transformers' modeling_llama.py, sharing no code with
 * the runtime. T tokens, H hidden, D head size; all positions at once, so there is no cache to get wrong.
 */
export function reference(weights: ReferenceWeights, tokens: number[], rounding: ExactRounding): Reference {
  const pass: Pass = { weights, rounding, ties: new Float64Array(tokens.length).fill(0.5) }
  const logits = forward(pass, tokens)
  // A position attends to all before it.
  let nearest = 0.5
  const ties = pass.ties.map(tie => (nearest = Math.min(nearest, tie)))
  return { logits, ties }
}

/** The mean of all tokens' states after the last norm, or the last token's, at length 1: (H). */
export function pooledReference(
  weights: ReferenceWeights,
  tokens: number[],
  pooling: 'mean' | 'last'
): Float64Array {
  const states = normedStates({ weights, rounding: 'none', ties: new Float64Array(tokens.length) }, tokens)
  const taken = pooling === 'last' ? states.slice(-1) : states
  const total = taken.reduce(sum)
  return total.map(value => value / Math.sqrt(dot(total, total)))
}

function forward(pass: Pass, tokens: number[]): Float64Array[] {
  const { hiddenSize, decoderLayers } = pass.weights.manifest.shape
  const output = pass.weights.get(decoderLayers + 1, 'output', hiddenSize)! // (vocabulary, H)
  return normedStates(pass, tokens).map((row, t) => product(pass, t, output, row))
}

/** After the last norm: T vectors (H). */
function normedStates(pass: Pass, tokens: number[]): Float64Array[] {
  const { weights } = pass
  const { shape } = weights.manifest
  const { hiddenSize: H, decoderLayers } = shape
  const table = weights.get(0, 'embedding', H)!
  let x: Float64Array[] = tokens.map(id => table.data.slice(id * H, (id + 1) * H)) // T x (H)
  for (let layer = 1; layer <= decoderLayers; layer++) {
    if (layerKind(layer, decoderLayers) === 'decoder') x = decoderLayer(pass, layer, x)
  }
  const norm = weights.get(decoderLayers + 1, 'norm', H)!
  return x.map(row => rmsNorm(row, norm.data, shape.normEpsilon))
}

function decoderLayer(pass: Pass, layer: number, x: Float64Array[]): Float64Array[] {
  const { weights } = pass
  const { hiddenSize: H, normEpsilon } = weights.manifest.shape
  const get = (name: string, columns: number) => weights.get(layer, name, columns)!
  const { blocks, layout } = weights.manifest.shape
  const {
    recurrence: spec,
    attention: own,
    feedForward: feed
  } = blocks[layout[(layer - 1) % layout.length]!]!
  const feeding = (row: Float64Array, t: number) => {
    if (feed.kind === 'none') return row
    return sum(row, feedForward(pass, layer, t, rmsNorm(row, get('ffn_norm', H).data, normEpsilon)))
  }
  if (own.kind === 'none' && spec === undefined) return x.map(feeding)
  const attentionNorm = get('attention_norm', H)
  const normed = x.map(row => rmsNorm(row, attentionNorm.data, normEpsilon)) // T x (H)
  const vector = (name: string) => get(name, 1).data
  const project = (name: string, t: number, row: Float64Array) => product(pass, t, get(name, H), row)
  const attended =
    spec === undefined
      ? attention(pass, layer, normed) // T x (heads * D)
      : recurrent({ spec, hiddenSize: H, normEpsilon, vector, project }, normed)
  const output = spec === undefined ? 'attention_output' : 'recurrence_output'
  const attentionOutput = get(output, attended[0]!.length)
  const outputBias = weights.get(layer, 'attention_output_bias', 1)?.data
  return x.map((row, t) => {
    const update = product(pass, t, attentionOutput, attended[t]!)
    return feeding(sum(row, outputBias === undefined ? update : sum(update, outputBias)), t)
  })
}

function feedForward(pass: Pass, layer: number, t: number, x: Float64Array): Float64Array {
  const { weights } = pass
  const { hiddenSize: H, ffnSize, blocks, layout } = weights.manifest.shape
  const spec = blocks[layout[(layer - 1) % layout.length]!]!.feedForward
  if (spec.kind === 'none') throw new Error(`layer ${layer} has no feed-forward part`)
  const { size: F = ffnSize, ungated } = spec
  const up = (place: '' | 'expert_' | 'shared_') => matrix(`${place}${ungated ? '' : 'gate_'}up`, H)
  const matrix = (name: string, columns: number) => weights.get(layer, name, columns)!
  const vector = (name: string) => weights.get(layer, name, 1)?.data
  if (spec.kind === 'gated') return unit(pass, t, spec, [up(''), matrix('ffn_down', F)], x)
  const { experts, used, normalised, shared, router, groups } = spec
  const routerBias = vector('router_bias')
  const plain = product(pass, t, matrix('router', H), x)
  const scores = routerBias === undefined ? plain : sum(plain, routerBias)
  const shares = router === 'softmax' ? softmax([...scores]) : [...scores].map(logistic)
  const correction = vector('router_correction')
  const plainRanking = groups === undefined ? scores : Float64Array.from(shares)
  const corrected = correction === undefined ? plainRanking : sum(Float64Array.from(shares), correction)
  const ranking = groups === undefined ? corrected : withinGroups(pass, t, groups, corrected)
  const ranked = range(experts).sort((a, b) => ranking[b]! - ranking[a]!)
  const chosen = ranked.slice(0, used)
  // Float32 and float64 may choose others of two that are alike.
  const next = ranked[used]
  if (next !== undefined) pass.ties[t] = Math.min(pass.ties[t]!, ranking[chosen.at(-1)!]! - ranking[next]!)
  const whole = normalised ? chosen.reduce((total, expert) => total + shares[expert]!, 0) : 1
  const gateUp = up('expert_')
  const down = matrix('expert_down', F)
  const biases = [vector('expert_gate_up_bias'), vector('expert_down_bias')] as const
  let out: Float64Array = new Float64Array(H)
  for (const expert of chosen) {
    const own = [rowsOf(gateUp, expert, experts), rowsOf(down, expert, experts)] as const
    const made = unit(
      pass,
      t,
      spec,
      own,
      x,
      biases.map(bias => bias && partOf(bias, expert, experts))
    )
    out = sum(
      out,
      made.map(value => (value * shares[expert]!) / whole)
    )
  }
  if (shared === undefined) return out
  const made = unit(pass, t, spec, [up('shared_'), matrix('shared_down', shared.size)], x)
  const gate = shared.gated ? logistic(dot(matrix('shared_gate', H).data, x)) : 1
  return sum(
    out,
    made.map(value => value * gate)
  )
}

/** Experts of groups that are left out rank last. */
function withinGroups(
  pass: Pass,
  t: number,
  { count, used, score }: { count: number; used: number; score: 'highest' | 'best-two' },
  ranking: Float64Array
): Float64Array {
  const each = ranking.length / count
  const scores = range(count).map(group => {
    const [first = 0, second = 0] = [...partOf(ranking, group, count)].sort((a, b) => b - a)
    return score === 'highest' ? first : first + second
  })
  const order = range(count).sort((a, b) => scores[b]! - scores[a]!)
  pass.ties[t] = Math.min(pass.ties[t]!, scores[order[used - 1]!]! - scores[order[used]!]!)
  const best = order.slice(0, used)
  return ranking.map((value, i) => (best.includes(Math.floor(i / each)) ? value : Number.NEGATIVE_INFINITY))
}

/** down(max(up(x), 0)^2) without a gate; else down(gate(x) logistic(alpha gate(x)) up(x)), within a limit, with 1 more for up, and with biases where there are such. */
function unit(
  pass: Pass,
  t: number,
  spec: UnitSpec,
  [gateUp, down]: readonly [gateUp: Matrix, down: Matrix],
  x: Float64Array,
  [gateUpBias, downBias]: readonly (Float64Array | undefined)[] = []
): Float64Array {
  const { activation, limit = Number.POSITIVE_INFINITY, upPlusOne, ungated } = spec
  const alpha = activation === 'quick-gelu' ? 1.702 : 1
  const plain = product(pass, t, gateUp, x)
  if (ungated) {
    return product(
      pass,
      t,
      down,
      plain.map(value => Math.max(value, 0) ** 2)
    )
  }
  const both = gateUpBias === undefined ? plain : sum(plain, gateUpBias) // (2F): gate, up
  const size = both.length / 2
  const gated = both.slice(0, size).map((value, i) => {
    const gate = Math.min(value, limit)
    const up = Math.max(-limit, Math.min(limit, both[size + i]!)) + (upPlusOne ? 1 : 0)
    return gate * logistic(alpha * gate) * up
  }) // (F)
  const made = product(pass, t, down, gated)
  return downBias === undefined ? made : sum(made, downBias)
}

function logistic(x: number): number {
  return 1 / (1 + Math.exp(-x))
}

/** One of `count` equal parts of some values. */
function partOf(values: Float64Array, index: number, count: number): Float64Array {
  return values.subarray((index * values.length) / count, ((index + 1) * values.length) / count)
}

/** One of `count` equal parts of a matrix's rows. */
function rowsOf(matrix: Matrix, index: number, count: number): Matrix {
  const part = (values: Float64Array) => partOf(values, index, count)
  const { rows, data, shifts } = matrix
  return { ...matrix, rows: rows / count, data: part(data), ...(shifts && { shifts: part(shifts) }) }
}

/** Causal attention: query head h reads key and value head h / (heads / kvHeads). */
function attention(pass: Pass, layer: number, x: Float64Array[]): Float64Array[] {
  const { weights } = pass
  const { hiddenSize: H, normEpsilon, blocks, layout, ...shape } = weights.manifest.shape
  const block = blocks[layout[(layer - 1) % layout.length]!]!.attention
  if (block.latent !== undefined) return latentAttention(pass, layer, block, x)
  const {
    heads = shape.heads,
    kvHeads = shape.kvHeads,
    headSize: D = shape.headSize,
    rope = shape.rope
  } = block
  const { window = Number.POSITIVE_INFINITY, scale = 1 / Math.sqrt(D), softcap, queryGrowth, rotary } = block
  const capped = (score: number) => (softcap === undefined ? score : softcap * Math.tanh(score / softcap))
  const growth = (t: number) =>
    queryGrowth === undefined ? 1 : 1 + queryGrowth.factor * Math.log(1 + Math.floor(t / queryGrowth.tokens))
  const qkv = weights.get(layer, 'qkv', H)!
  const bias = weights.get(layer, 'qkv_bias', 1)?.data
  const sinks = weights.get(layer, 'sinks', 1)?.data
  const gate = weights.get(layer, 'attention_gate', H)
  const qNorm = weights.get(layer, 'q_norm', D)?.data
  const kNorm = weights.get(layer, 'k_norm', D)?.data
  const rows = x.map((row, t) => {
    const out = product(pass, t, qkv, row) // ((heads + 2 kvHeads) * D)
    return bias === undefined ? out : sum(out, bias)
  })
  const head = (t: number, i: number) => rows[t]!.slice(i * D, (i + 1) * D)
  const turned = (t: number, i: number, norm: Float64Array | undefined) =>
    rotate(
      norm === undefined ? head(t, i) : rmsNorm(head(t, i), norm, normEpsilon),
      rotary === 'none' ? 0 : t,
      rope
    )
  const keys = x.map((_, t) => range(kvHeads).map(k => turned(t, heads + k, kNorm)))
  const values = x.map((_, t) => range(kvHeads).map(k => head(t, heads + kvHeads + k)))
  return x.map((_, t) => {
    const out = new Float64Array(heads * D)
    for (let h = 0; h < heads; h++) {
      const query = turned(t, h, qNorm).map(value => value * growth(t))
      const kv = Math.floor(h / (heads / kvHeads))
      const first = Math.max(0, t + 1 - window)
      const seen = range(t + 1 - first).map(i => first + i)
      const own = seen.map(s => capped(dot(query, keys[s]![kv]!) * scale))
      // A sink takes its part and has no value.
      const scores = softmax(sinks === undefined ? own : [...own, sinks[h]!]).slice(0, own.length)
      scores.forEach((score, i) => {
        values[seen[i]!]![kv]!.forEach((value, d) => {
          out[h * D + d]! += score * value
        })
      })
    }
    if (gate === undefined) return out
    const gates = product(pass, t, gate, x[t]!)
    return out.map((value, i) => value * logistic(gates[i]!))
  })
}

/**
 * Keys and values of every head made of the latent vector, and kept: DeepSeek-V2's paper, section 2.1.2, where the runtime brings
 * queries to latent vectors instead.
 */
function latentAttention(
  pass: Pass,
  layer: number,
  block: Block['attention'],
  x: Float64Array[]
): Float64Array[] {
  const { weights } = pass
  const { hiddenSize: H, normEpsilon, ...shape } = weights.manifest.shape
  const { size, unturned, value, query } = block.latent!
  const { heads = shape.heads, rope = shape.rope } = block
  const rotated = rope.rotated!
  const head = unturned + rotated
  const get = (name: string, columns: number) => weights.get(layer, name, columns)!
  const normed = (row: Float64Array, name: string) => rmsNorm(row, get(name, row.length).data, normEpsilon)
  const down = x.map((row, t) => product(pass, t, get('latent', H), row))
  const latents = down.map(row => normed(row.slice(0, size), 'latent_norm'))
  const turnedKeys = down.map((row, t) => rotate(row.slice(size), t, rope))
  const [keyUp, valueUp] = [get('key_up', size), get('value_up', size)]
  const keys = latents.map((row, t) => product(pass, t, keyUp, row))
  const values = latents.map((row, t) => product(pass, t, valueUp, row))
  return x.map((row, t) => {
    const input =
      query === undefined ? row : normed(product(pass, t, get('query_down', H), row), 'query_norm')
    const queries = product(pass, t, get('query', query ?? H), input)
    const out = new Float64Array(heads * value)
    for (let h = 0; h < heads; h++) {
      const plain = queries.slice(h * head, h * head + unturned)
      const turned = rotate(queries.slice(h * head + unturned, (h + 1) * head), t, rope)
      const scores = range(t + 1).map(
        s =>
          (dot(plain, keys[s]!.slice(h * unturned, (h + 1) * unturned)) + dot(turned, turnedKeys[s]!)) *
          block.scale!
      )
      softmax(scores).forEach((share, s) => {
        for (let d = 0; d < value; d++) out[h * value + d]! += share * values[s]![h * value + d]!
      })
    }
    return out
  })
}

/** Turns the pairs (i, i + rotated / 2) of one head by position * frequency. */
function rotate(x: Float64Array, position: number, rope: RopeSpec): Float64Array {
  const half = (rope.rotated ?? x.length) / 2
  const out = x.slice()
  for (let i = 0; i < half; i++) {
    const angle = position * frequency(i / half, rope)
    out[i] = x[i]! * Math.cos(angle) - x[i + half]! * Math.sin(angle)
    out[i + half] = x[i + half]! * Math.cos(angle) + x[i]! * Math.sin(angle)
  }
  return out
}

/** transformers' `_compute_default_rope_parameters`, `_compute_linear_...` and `_compute_llama3_parameters`. */
function frequency(fraction: number, { theta, scaling }: RopeSpec): number {
  const plain = 1 / theta ** fraction
  if (scaling === undefined) return plain
  if (scaling.type === 'linear') return plain / scaling.factor
  if (scaling.type === 'divided') return plain / scaling.divisors[fraction * scaling.divisors.length]!
  // Golden models of llama.cpp have YaRN.
  if (scaling.type !== 'llama3') throw new Error(`no reference for ${scaling.type}`)
  const original = scaling.originalContextLength!
  const [low, high] = [scaling.lowFreqFactor!, scaling.highFreqFactor!]
  const wavelength = (2 * Math.PI) / plain
  if (wavelength < original / high) return plain
  if (wavelength > original / low) return plain / scaling.factor
  const smooth = (original / wavelength - low) / (high - low)
  return ((1 - smooth) * plain) / scaling.factor + smooth * plain
}

function rmsNorm(x: Float64Array, weight: Float64Array, epsilon: number): Float64Array {
  const meanSquare = dot(x, x) / x.length
  return x.map((value, i) => (value / Math.sqrt(meanSquare + epsilon)) * weight[i]!)
}

/** (rows, columns) times (columns): (rows), at position `t`. */
function product(
  { rounding, ties }: Pass,
  t: number,
  { rows, columns, data, blockSize, shifts }: Matrix,
  input: Float64Array
): Float64Array {
  let x = input
  if (blockSize !== undefined) {
    x = roundInput(input, blockSize, rounding)
    ties[t] = Math.min(ties[t]!, distanceFromTie(input, blockSize, rounding))
  }
  const out = new Float64Array(rows)
  for (let row = 0; row < rows; row++) {
    let value = 0
    for (let column = 0; column < columns; column++) {
      value += data[row * columns + column]! * x[column]!
      if (shifts === undefined) continue
      const shift = shifts[((row * columns + column) / blockSize!) | 0]!
      value += shift * (input[column]! - x[column]!)
    }
    out[row] = value
  }
  return out
}

function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((total, value, i) => total + value * b[i]!, 0)
}

function sum(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((value, i) => value + b[i]!)
}

function softmax(x: number[]): number[] {
  const max = Math.max(...x)
  const powers = x.map(value => Math.exp(value - max))
  const total = powers.reduce((a, b) => a + b, 0)
  return powers.map(value => value / total)
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i)
}
