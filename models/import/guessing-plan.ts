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
 * Decides what the first of a checkpoint's layers that guess further tokens is made of. It is one as the last layer, with what
 * goes into it and the norm that follows it (vLLM's deepseek_mtp.py and glm4_moe_mtp.py; llama.cpp's `nextn` tensors); the copies
 * of embedding and head that checkpoints may have beside it are the model's own, and are left out.
 *
 * @throws {UnsupportedModelError} where the checkpoint has none that is known here; {CheckpointError} naming a tensor that is
 * missing or misshapen
 */
export function planGuessing(
  { file, config }: Pick<Checkpoint, 'file' | 'config'>,
  options: LayerPlanOptions
): PlannedGuessing {
  const { shape, guessingLayers, architecture } = config
  const joins = architecture.guesses?.joins
  const index = shape.decoderLayers + 1
  if (joins === undefined || guessingLayers === 0) {
    const why = joins === undefined ? `none of ${architecture.name} is known` : 'it has none'
    throw new UnsupportedModelError(`${file}: no layer that guesses further tokens can be kept: ${why}`)
  }
  const block: Block = { ...blockOf(shape, shape.decoderLayers), joins }
  const own = { ...options, shape: guessingShape(shape, block) }
  const tensors = layerTensors(own.shape, 1)
  const [first] = partsOf('join', 'decoder', index, shape.hiddenSize, own)
  // Who has rounded a model, or tuned it, may have left them out and its configuration as it was.
  if (options.source.dims(first!.name) === undefined) {
    throw new UnsupportedModelError(
      `${file}: no layer that guesses further tokens can be kept: its tensors, as ${first!.name}, are not there`
    )
  }
  return { block, layer: planLayer({ kind: 'decoder', index, tensors }, own) }
}
