import { UnsupportedModelError } from '../errors.ts'
import type { Quantization } from '../manifest.ts'
import { dequantizeRows, quantizeRows } from '../quantize.ts'
import type { Checkpoint } from './checkpoint.ts'
import type { LayerPlanOptions, PlannedLayer, PlannedTensor } from './layer-plan.ts'
import { planLayers } from './layer-plan.ts'
import type { WeightSource } from './weights.ts'

/** Growth of the store over the file from which other ways to import it are shown. */
const WORTH_SAYING = 1.1
/** Tensors that a relative error is measured on, from all over the model, and values of each. */
const SAMPLED_TENSORS = 12
const SAMPLED_VALUES = 2 ** 17

/** What a plan costs. */
export interface StoreCost {
  /** Bytes of the layers' files. */
  storeBytes: number
  /** Root of the squared error over that of the squared values, on a sample of what is rounded; 0 where nothing is. */
  relativeError: number
}

/** Ways to round all projections, to be shown beside a plan. */
export interface Alternative {
  mode: string
  quantize: Quantization
}

/**
 * What the user should know before anything is written: which types are rounded, and at what error; where the store
 * takes clearly more than the file, what it would take otherwise. Empty where there is nothing to choose.
 *
 * @param plan of `options`
 */
export async function costNotices(
  plan: readonly PlannedLayer[],
  { source }: Pick<Checkpoint, 'source'>,
  options: LayerPlanOptions,
  alternatives: readonly Alternative[]
): Promise<string[]> {
  // A mode that was chosen was chosen with its cost.
  if (options.quantize !== undefined) return []
  const cost = await costOf(plan, source)
  const fileBytes = bytesOf(plan, source)
  const notices: string[] = []
  if (cost.relativeError > 0) {
    const kept = await costOf(planLayers({ ...options, exact: true }), source)
    notices.push(
      `${roundedTypes(plan, source).join(' and ')}: rounded to ${roundedTo(plan).join(' and ')}, at a relative error of ` +
        `${percent(cost.relativeError)} (of a sample); the store takes ${size(cost.storeBytes)}, and with --quantize none, which keeps ` +
        `the own values, ${size(kept.storeBytes)}`
    )
  }
  if (cost.storeBytes <= WORTH_SAYING * fileBytes || options.exact) return notices
  const choices: string[] = []
  for (const { mode, quantize } of alternatives) {
    const other = planned({ ...options, quantize })
    if (other === undefined) continue
    const { storeBytes, relativeError } = await costOf(other, source)
    if (storeBytes < cost.storeBytes / WORTH_SAYING) {
      choices.push(`--quantize ${mode} ${size(storeBytes)} at a relative error of ${percent(relativeError)}`)
    }
  }
  if (choices.length === 0) return notices
  const kept = cost.relativeError > 0 ? 'as planned' : 'with its own values'
  notices.push(
    `${kept} the model takes ${size(cost.storeBytes)} in the store, ${(cost.storeBytes / fileBytes).toFixed(2)} times the ` +
      `${size(fileBytes)} of its file; otherwise it would take: ${choices.join(', ')} (of a sample)`
  )
  return notices
}

/** The plan, or undefined where the model's sizes do not allow it. */
function planned(options: LayerPlanOptions): PlannedLayer[] | undefined {
  try {
    return planLayers(options)
  } catch (error) {
    if (error instanceof UnsupportedModelError) return undefined
    throw error
  }
}

async function costOf(plan: readonly PlannedLayer[], source: WeightSource): Promise<StoreCost> {
  const rounded = plan.flatMap(({ tensors }) => tensors.filter(tensor => tensor.round))
  const step = Math.max(1, rounded.length / SAMPLED_TENSORS)
  const sample = new Set<PlannedTensor>()
  for (let i = 0; i < rounded.length; i += step) sample.add(rounded[Math.floor(i)]!)
  let error = 0
  let all = 0
  for (const { tensor, parts, packing } of sample) {
    const columns = tensor.dims[1]!
    const { name, rows, start: first = 0 } = parts[0]!
    const count = Math.min(rows, Math.max(1, Math.floor(SAMPLED_VALUES / columns)))
    const start = first + Math.floor((rows - count) / 2)
    const values = (await source.read(name, start, start + count)).floats()
    const back = dequantizeRows(quantizeRows(values, columns, packing!), columns, packing!)
    for (const [i, value] of values.entries()) {
      error += (value - back[i]!) ** 2
      all += value ** 2
    }
  }
  const storeBytes = plan.reduce((sum, layer) => sum + layer.bytes, 0)
  return { storeBytes, relativeError: all === 0 ? 0 : Math.sqrt(error / all) }
}

/** What the tensors of a plan take in their file. */
function bytesOf(plan: readonly PlannedLayer[], source: WeightSource): number {
  const names = new Set(plan.flatMap(({ tensors }) => tensors.flatMap(t => t.parts.map(part => part.name))))
  return [...names].reduce((sum, name) => sum + source.bytes(name), 0)
}

function roundedTypes(plan: readonly PlannedLayer[], source: WeightSource): string[] {
  const rounded = plan.flatMap(({ tensors }) => tensors.filter(tensor => tensor.round))
  return [...new Set(rounded.flatMap(({ parts }) => parts.map(({ name }) => source.type(name))))].sort()
}

function roundedTo(plan: readonly PlannedLayer[]): string[] {
  const rounded = plan.flatMap(({ tensors }) => tensors.filter(tensor => tensor.round))
  const packings = rounded.map(({ packing }) => `${packing!.bits} bits in blocks of ${packing!.blockSize}`)
  return [...new Set(packings)].sort()
}

function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.1 ? 2 : 1)} %`
}

function size(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(2)} MB`
}
