import { isDeepStrictEqual } from 'node:util'
import { arrangeBlocks, plainBlock } from './blocks.ts'
import { ManifestError } from './errors.ts'
import { type Manifest, type ModelShape, ShapeSchema } from './manifest-schema.ts'
import { checkTensors } from './tensors.ts'

/**
 * The model that guesses what follows a model's next token, where a checkpoint came with a layer that does (multi-token
 * prediction; DeepSeek-V3's report, section 2.2): the model's embedding, that layer and the model's head, two of whose files
 * it shares. Its layer takes what the model made of each token, after the last norm, beside the token that follows it.
 * Undefined where there is no such layer.
 */
export function guessingManifest(manifest: Manifest): Manifest | undefined {
  const { guessing, pooling: _, ...model } = manifest
  if (guessing === undefined) return undefined
  const { layers } = manifest
  return {
    ...model,
    shape: guessingShape(model.shape, guessing.block),
    layers: [layers[0]!, guessing.layer, layers.at(-1)!]
  }
}

/** The blueprint of the model that guesses. */
export function guessingShape(
  shape: ModelShape,
  block: NonNullable<Manifest['guessing']>['block']
): ModelShape {
  return { ...shape, decoderLayers: 1, ...arrangeBlocks([block]) }
}

/** Whether a model needs to be told what another one made of its tokens. */
export function joinsStates({ blocks }: Pick<ModelShape, 'blocks'>): boolean {
  return blocks.some(({ joins }) => joins !== undefined)
}

/**
 * Checks that a model's own layers join nothing, and that the one that guesses has the sizes and tensors that it says.
 *
 * @throws {ManifestError} saying what is wrong.
 */
export function checkGuessing(manifest: Manifest): void {
  const { shape, guessing } = manifest
  if (joinsStates(shape)) throw new ManifestError('shape: a layer of the model joins what none gives it')
  if (guessing === undefined) return
  const { block, layer } = guessing
  const own = guessingShape(shape, block)
  const parsed = ShapeSchema.safeParse(own)
  if (!parsed.success) throw new ManifestError(`manifest: guessing: ${parsed.error.issues[0]!.message}`)
  if (block.joins === undefined || layer.kind !== 'decoder' || block.attention.kind === 'none') {
    throw new ManifestError('manifest: guessing: the layer does not join states, or is none that attends')
  }
  if (!isDeepStrictEqual(plainBlock(shape, block), block)) {
    throw new ManifestError('manifest: guessing: the block is not in its shortest form')
  }
  try {
    checkTensors(layer, own, 1)
  } catch (error) {
    throw new ManifestError(`manifest: guessing: ${(error as Error).message}`)
  }
}
