import { UnsupportedModelError } from '../errors.ts'
import { dequantizeRows, quantizeRows } from '../quantize.ts'
import type { Checkpoint } from './checkpoint.ts'
import type { LayerPlanOptions, PlannedLayer, PlannedTensor } from './layer-plan.ts'
import { blocksOf, type Rounding, roundingOptions } from './rounding.ts'
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

/** Ways to have a model in the store, where it takes clearly more there than in its file. */
export interface StoreOffer {
  fileBytes: number
  /** What is done where nobody chooses. */
  planned: StoreCost
  /** Roundings that take clearly less. */
  others: readonly (Rounding & StoreCost)[]
}

/** What the user should know, and may choose, before anything is written. */
export interface CostReport {
  notices: string[]
  offer: StoreOffer | undefined
}

/**
 * What a plan costs: which types are rounded, and at what error; what the model takes in the store, and what it would take
 * otherwise.
 *
 * @param planOf plans all that would be written
 * @param options of what is planned
 * @param alternatives roundings to be shown beside it where nothing was chosen
 */
export async function reportCost(
  planOf: (options: LayerPlanOptions) => PlannedLayer[],
  { source }: Pick<Checkpoint, 'source'>,
  options: LayerPlanOptions,
  alternatives: readonly Rounding[]
): Promise<CostReport> {
  const samples = new Samples(source)
  const plan = planOf(options)
  const cost = await costOf(plan, samples)
  const fileBytes = bytesOf(plan, source)
  const notices: string[] = []
  if (cost.relativeError > 0) {
    const { quantize: _, ...own } = options
    const kept = await costOf(planOf({ ...own, exact: true }), samples)
    notices.push(
      `${roundedTypes(plan, source).join(' and ')}: rounded to ${roundedTo(plan).join(' and ')}, at a relative error of ` +
        `${percentText(cost.relativeError)} (of a sample); the store takes ${sizeText(cost.storeBytes)}, and with --quantize none, which keeps ` +
        `the own values, ${sizeText(kept.storeBytes)}`
    )
  }
  const isChosen = options.quantize !== undefined || options.exact === true
  if (isChosen || cost.storeBytes <= WORTH_SAYING * fileBytes) return { notices, offer: undefined }
  const others: (Rounding & StoreCost)[] = []
  for (const rounding of alternatives) {
    const other = unlessUnsupported(() => planOf({ ...options, quantize: blocksOf(rounding) }))
    if (other === undefined) continue
    const otherCost = await costOf(other, samples)
    if (otherCost.storeBytes < cost.storeBytes / WORTH_SAYING) others.push({ ...rounding, ...otherCost })
  }
  return { notices, offer: others.length === 0 ? undefined : { fileBytes, planned: cost, others } }
}

/** An offer as a sentence for who is not asked: what is done, and what would have been there. */
export function offerNotice({ fileBytes, planned, others }: StoreOffer): string {
  const kept = planned.relativeError > 0 ? 'as planned' : 'with its own values'
  const choices = others.map(
    other =>
      `${roundingOptions(other)} ${sizeText(other.storeBytes)} at a relative error of ${percentText(other.relativeError)}`
  )
  return (
    `${kept} the model takes ${sizeText(planned.storeBytes)} in the store, ${growthText(planned, fileBytes)} times the ` +
    `${sizeText(fileBytes)} of its file; otherwise it would take: ${choices.join(', ')} (of a sample); it is taken ${kept}, ` +
    'as nothing else was asked for'
  )
}

/** `1.43`: how much larger the store is than the file. */
export function growthText({ storeBytes }: StoreCost, fileBytes: number): string {
  return (storeBytes / fileBytes).toFixed(2)
}

export function percentText(share: number): string {
  return `${(share * 100).toFixed(share < 0.1 ? 2 : 1)} %`
}

export function sizeText(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(2)} MB`
}

/** A plan, or undefined where the model's sizes do not allow it. */
function unlessUnsupported(plan: () => PlannedLayer[]): PlannedLayer[] | undefined {
  try {
    return plan()
  } catch (error) {
    if (error instanceof UnsupportedModelError) return undefined
    throw error
  }
}

/** Rows of tensors as floats, read once for all plans: a file may lie behind a network. */
class Samples {
  readonly #source: WeightSource
  readonly #read = new Map<string, Promise<Float32Array>>()

  constructor(source: WeightSource) {
    this.#source = source
  }

  /** Rows [start, end) of a tensor. */
  async of(name: string, start: number, end: number): Promise<Float32Array> {
    const key = `${start}-${end} ${name}`
    const known = this.#read.get(key)
    if (known !== undefined) return await known
    // What was read may lie in memory that is used again.
    const reading = this.#source.read(name, start, end).then(rows => rows.floats().slice())
    this.#read.set(key, reading)
    return await reading
  }
}

async function costOf(plan: readonly PlannedLayer[], samples: Samples): Promise<StoreCost> {
  const rounded = roundedOf(plan)
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
    const values = await samples.of(name, start, start + count)
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

function roundedOf(plan: readonly PlannedLayer[]): PlannedTensor[] {
  return plan.flatMap(({ tensors }) => tensors.filter(tensor => tensor.round))
}

function roundedTypes(plan: readonly PlannedLayer[], source: WeightSource): string[] {
  const types = roundedOf(plan).flatMap(({ parts }) => parts.map(({ name }) => source.type(name)))
  return [...new Set(types)].sort()
}

function roundedTo(plan: readonly PlannedLayer[]): string[] {
  const packings = roundedOf(plan).map(
    ({ packing }) => `${packing!.bits} bits in blocks of ${packing!.blockSize}`
  )
  return [...new Set(packings)].sort()
}
