import { NO_ATTENTION } from '../block-schema.ts'
import { arrangeBlocks, type BlockSizes, plainBlock } from '../blocks.ts'
import type { Block, ModelShape, RopeSpec } from '../manifest.ts'
import { MAX_DECODER_LAYERS } from '../manifest-schema.ts'
import type { Architecture } from './architectures/architecture.ts'
import type { ExpertsOf } from './experts-config.ts'
import type { LayerPart, PartOf } from './layer-parts.ts'
import type { RecurrenceOf } from './recurrence-config.ts'
import type { HeadSizes } from './window-heads.ts'

/** What a checkpoint says of its layers beyond what its architecture does. */
export interface LayerChoices {
  /** Tokens of the windows, and which decoder layers, from 0, have one. */
  window: number | undefined
  isWindowed: (layer: number) => boolean
  /** Which decoder layers, from 0, have positions. */
  isTurned: (layer: number) => boolean
  /** How layers with a window turn, where it is not as the others. */
  windowRope: RopeSpec | undefined
  /** Their heads, where those are other ones. */
  windowHeads: HeadSizes | undefined
  hasBias: boolean
  /** Each head of q and k has a norm, where the architecture leaves that open. */
  hasHeadNorms: boolean
  scale: number | undefined
  softcap: number | undefined
  queryGrowth: Block['attention']['queryGrowth'] | undefined
  latent: Block['attention']['latent'] | undefined
  experts: ExpertsOf
  recurrence: RecurrenceOf
  part: PartOf
}

/** The model's shape with the blocks of its layers. */
export function withBlocks(
  shape: Omit<ModelShape, 'blocks' | 'layout'> & BlockSizes,
  { pattern }: Architecture,
  choices: LayerChoices
): ModelShape {
  // More than a manifest may have is refused with the rest of the shape.
  const count = Math.min(Math.max(1, shape.decoderLayers), MAX_DECODER_LAYERS)
  const blocks = Array.from({ length: count }, (_, layer) =>
    plainBlock(shape, partOf(chosen(pattern[layer % pattern.length]!, layer, choices), choices.part(layer)))
  )
  return { ...shape, ...arrangeBlocks(blocks) }
}

/** What is left of a block where its layer is one part alone. */
function partOf(block: Block, part: LayerPart | undefined): Block {
  if (part === undefined) return block
  if (part === 'dense' || part === 'experts') return { ...block, attention: NO_ATTENTION }
  return { ...block, feedForward: { kind: 'none' } }
}

function chosen(block: Block, layer: number, choices: LayerChoices): Block {
  const { window, windowRope, windowHeads, hasBias, hasHeadNorms, scale, softcap, queryGrowth, latent } =
    choices
  const windowed = window !== undefined && choices.isWindowed(layer)
  const part = choices.part(layer)
  const experts = part === undefined || part === 'experts' ? choices.experts(layer) : undefined
  const recurrence = part === undefined || part === 'recurrence' ? choices.recurrence(layer) : undefined
  const others = {
    ...block,
    ...(experts &&
      block.feedForward.kind !== 'none' && {
        feedForward: { ...block.feedForward, kind: 'experts' as const, ...experts }
      })
  }
  if (recurrence !== undefined) return { ...others, attention: NO_ATTENTION, recurrence }
  return {
    ...others,
    attention: {
      ...block.attention,
      ...(hasBias && block.attention.bias === 'none' && { bias: 'qkv' as const }),
      ...(hasHeadNorms && { queryKeyNorm: 'head' as const }),
      ...(!choices.isTurned(layer) && { rotary: 'none' as const }),
      ...(windowed && { window }),
      ...(windowed && windowRope && { rope: windowRope }),
      ...(windowed && windowHeads),
      ...(scale !== undefined && { scale }),
      ...(softcap !== undefined && { softcap }),
      ...(queryGrowth && { queryGrowth }),
      ...(latent && { kind: 'latent' as const, latent })
    }
  }
}

/** What scores are multiplied with by an architecture's own number, where it has one. */
export function attentionScale(
  { attentionScale: setting }: Architecture,
  value: number | undefined
): number | undefined {
  if (setting === undefined || value === undefined) return undefined
  return setting.ofRoot === true ? 1 / Math.sqrt(value) : value
}

/** Whether decoder layer `layer`, from 0, is one that every so many-th is not. */
export function isNotEvery(layer: number, every: number | undefined): boolean {
  return every === undefined || (layer + 1) % every !== 0
}
