import type { Block } from '../block-schema.ts'
import { blockOf } from '../blocks.ts'
import { UnsupportedModelError } from '../errors.ts'
import { guessingShape } from '../guessing.ts'
import { layerTensors } from '../tensors.ts'
import type { Checkpoint } from './checkpoint.ts'
import { type LayerPlanOptions, type PlannedLayer, planLayer } from './layer-plan.ts'
import { partsOf } from './naming.ts'

/** The layer that guesses a further token, as it will be written. */
export interface PlannedGuessing {
  block: Block
  layer: PlannedLayer
}

/**
 * How the input of the layer that guesses is made, where a configuration says that there is one.
 *
 * @throws {UnsupportedModelError} where there is none, or none that is known here
 */
export function joinsOf({
  file,
  config: { guessingLayers, architecture }
}: Pick<Checkpoint, 'file' | 'config'>): NonNullable<Block['joins']> {
  const joins = architecture.guesses?.joins
  if (joins !== undefined && guessingLayers > 0) return joins
  throw cannotKeep(file, joins === undefined ? `none of ${architecture.name} is known` : 'it has none')
}

/**
 * Decides what the first of a checkpoint's layers that guess further tokens is made of. It is one as the last layer, with what
 * goes into it and the norm that follows it (vLLM's deepseek_mtp.py and glm4_moe_mtp.py; llama.cpp's `nextn` tensors); the copies
 * of embedding and head that checkpoints may have beside it are the model's own, and are left out.
 *
 * @throws {UnsupportedModelError} where the checkpoint has none that is known here; {CheckpointError} naming a tensor that is
 * missing or misshapen
 */
export function planGuessing(
  checkpoint: Pick<Checkpoint, 'file' | 'config'>,
  options: LayerPlanOptions
): PlannedGuessing {
  const { file, config } = checkpoint
  const { shape } = config
  const index = shape.decoderLayers + 1
  const block: Block = { ...blockOf(shape, shape.decoderLayers), joins: joinsOf(checkpoint) }
  const own = { ...options, shape: guessingShape(shape, block) }
  const tensors = layerTensors(own.shape, 1)
  const [first] = partsOf('join', 'decoder', index, shape.hiddenSize, own)
  // A model that was rounded or tuned may have lost them, and have its configuration as it was.
  if (options.source.dims(first!.name) === undefined) {
    throw cannotKeep(file, `its tensors, as ${first!.name}, are not there`)
  }
  return { block, layer: planLayer({ kind: 'decoder', index, tensors }, own) }
}

/** The refusal of a user who asked for the layer. */
export function cannotKeep(file: string, why: string): UnsupportedModelError {
  return new UnsupportedModelError(`${file}: no layer that guesses further tokens can be kept: ${why}`)
}
