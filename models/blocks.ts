import { isDeepStrictEqual } from 'node:util'
import type { Block, RopeSpec } from './block-schema.ts'
import { type LayerKind, layerKind } from './layers.ts'
import type { ModelShape } from './manifest-schema.ts'

/** Sizes of a decoder layer, in elements. */
export interface BlockSizes {
  heads: number
  kvHeads: number
  headSize: number
  ffnSize: number
}

/** How a layer turns q and k: by which frequencies, and how many of a head's values. */
export interface Turning {
  rope: RopeSpec
  rotated: number
}

/** What decoder layer `layer` (1..L) computes. */
export function blockOf({ blocks, layout }: Pick<ModelShape, 'blocks' | 'layout'>, layer: number): Block {
  return blocks[layout[(layer - 1) % layout.length]!]!
}

/** The sizes of a block: the model's, but for those that are its own. */
export function sizesOf(shape: BlockSizes, { attention, feedForward }: Block): BlockSizes {
  return {
    heads: attention.heads ?? shape.heads,
    kvHeads: attention.kvHeads ?? shape.kvHeads,
    headSize: attention.headSize ?? shape.headSize,
    ffnSize: (feedForward.kind === 'none' ? undefined : feedForward.size) ?? shape.ffnSize
  }
}

/** The sizes of decoder layer `layer` (1..L). */
export function layerSizes(shape: ModelShape, layer: number): BlockSizes {
  return sizesOf(shape, blockOf(shape, layer))
}

/** What a token takes in the KV cache of decoder layer `layer` (1..L), in elements: of each of `heads` a key and a value. */
export interface CacheSizes {
  heads: number
  key: number
  /** 0 where keys and values are made of the same. */
  value: number
}

export function cacheSizes(shape: ModelShape, layer: number): CacheSizes {
  const { kvHeads, headSize } = layerSizes(shape, layer)
  const { latent } = blockOf(shape, layer).attention
  return { heads: kvHeads, key: headSize, value: latent === undefined ? headSize : 0 }
}

/** How a block turns q and k; undefined where it does not. */
export function turningOf(shape: ModelShape, block: Block): Turning | undefined {
  if (block.attention.rotary === 'none') return undefined
  const rope = block.attention.rope ?? shape.rope
  return { rope, rotated: rope.rotated ?? sizesOf(shape, block).headSize }
}

/** The different ways in which a model's layers turn q and k: the first is the model's own, used or not. */
export function turnings(shape: ModelShape): Turning[] {
  const { rope } = shape
  const found: Turning[] = [{ rope, rotated: rope.rotated ?? shape.headSize }]
  for (const block of shape.blocks) {
    const turning = turningOf(shape, block)
    if (turning === undefined || found.some(other => isDeepStrictEqual(other, turning))) continue
    found.push(turning)
  }
  return found
}

/** Which of `turnings` decoder layer `layer` uses; undefined where it turns nothing. */
export function turningNumber(shape: ModelShape, layer: number): number | undefined {
  const turning = turningOf(shape, blockOf(shape, layer))
  if (turning === undefined) return undefined
  return turnings(shape).findIndex(other => isDeepStrictEqual(other, turning))
}

/** A block without what says no more than the model's shape does, which is the one form that a manifest may have. */
export function plainBlock(shape: Omit<ModelShape, 'blocks' | 'layout'>, block: Block): Block {
  const { heads, kvHeads, headSize, rope, window, scale, ...attention } = block.attention
  const own = <K extends string, V>(key: K, value: V | undefined, general: unknown) =>
    value === undefined || isDeepStrictEqual(value, general) ? {} : ({ [key]: value } as Record<K, V>)
  const sizes = sizesOf(shape, block)
  return {
    ...block,
    attention: {
      ...attention,
      ...own('heads', heads, shape.heads),
      ...own('kvHeads', kvHeads, shape.kvHeads),
      ...own('headSize', headSize, shape.headSize),
      ...(attention.rotary === 'none'
        ? {}
        : own('rope', rope && plainRope(rope, sizes.headSize), shape.rope)),
      ...(window === undefined || window >= shape.contextLength ? {} : { window }),
      ...own('scale', scale, 1 / Math.sqrt(sizes.headSize))
    },
    feedForward: plainFeedForward(shape, block.feedForward)
  }
}

function plainFeedForward({ ffnSize }: BlockSizes, feedForward: Block['feedForward']): Block['feedForward'] {
  if (feedForward.kind === 'none' || feedForward.size !== ffnSize) return feedForward
  const { size: _, ...others } = feedForward
  return others
}

/** A rope without what is so anyway. */
export function plainRope({ rotated, ...rope }: RopeSpec, headSize: number): RopeSpec {
  return rotated === undefined || rotated === headSize ? rope : { ...rope, rotated }
}

/** The blocks of decoder layers 1..L in the one form that a manifest may have: each once, in the shortest pattern. */
export function arrangeBlocks(layers: readonly Block[]): Pick<ModelShape, 'blocks' | 'layout'> {
  const blocks: Block[] = []
  const numbers = layers.map(layer => {
    const found = blocks.findIndex(block => isDeepStrictEqual(block, layer))
    return found >= 0 ? found : blocks.push(layer) - 1
  })
  let period = 1
  while (numbers.some((number, i) => number !== numbers[i % period])) period++
  return { blocks, layout: numbers.slice(0, period) }
}

/** The blocks of all decoder layers, in order. */
export function expandBlocks(shape: Pick<ModelShape, 'blocks' | 'layout' | 'decoderLayers'>): Block[] {
  return Array.from({ length: shape.decoderLayers }, (_, i) => blockOf(shape, i + 1))
}

/**
 * What layers are told apart as where they are timed: decoder layers of the model's first block are `decoder`, those of
 * another one have its number.
 */
export type TimedKind = LayerKind | `decoder-${number}`

/** Something of each timed kind of a model. */
export type ByTimedKind<T> = Record<LayerKind, T> & Record<`decoder-${number}`, T>

/** What layer `index` of all layers is timed as. */
export function timedKind(shape: Pick<ModelShape, 'decoderLayers' | 'layout'>, index: number): TimedKind {
  const kind = layerKind(index, shape.decoderLayers)
  return kind === 'decoder' ? blockKind(shape.layout[(index - 1) % shape.layout.length]!) : kind
}

function blockKind(block: number): TimedKind {
  return block === 0 ? 'decoder' : `decoder-${block}`
}

/** Each timed kind of a model, with the shape of one whose decoder layers are all of that kind. */
export function timedKinds(shape: ModelShape): { kind: TimedKind; shape: ModelShape }[] {
  const alike = shape.blocks.map((block, i) => ({
    kind: blockKind(i),
    shape: { ...shape, blocks: [block], layout: [0] }
  }))
  const [first] = alike
  return [{ kind: 'embedding', shape: first!.shape }, ...alike, { kind: 'head', shape: first!.shape }]
}

/** Something of each timed kind, one after the other. */
export async function ofTimedKinds<T>(
  shape: ModelShape,
  make: (kind: LayerKind, shape: ModelShape) => Promise<T>
): Promise<ByTimedKind<T>> {
  const made: [TimedKind, T][] = []
  for (const { kind, shape: alike } of timedKinds(shape)) {
    made.push([kind, await make(kind === 'embedding' || kind === 'head' ? kind : 'decoder', alike)])
  }
  return Object.fromEntries(made) as ByTimedKind<T>
}
