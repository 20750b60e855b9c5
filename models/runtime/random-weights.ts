import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { layerKind } from '../layers.ts'
import type { LayerFile, Manifest, ModelShape, Quantization, TensorEntry } from '../manifest.ts'
import { endOf, layerTensors, placeTensor } from '../tensors.ts'

/** Random bytes that files are filled with, again and again. */
const PATTERN_BYTES = 64 * 1024

/**
 * A manifest of a model of random weights, to time. Each layer has a file of its own, called by its number: of layers
 * that share a file, ONNX Runtime would keep the weights once, and read them from the processor's cache.
 */
export function randomManifest(shape: ModelShape, quantization: Quantization | undefined): Manifest {
  const layers = Array.from({ length: shape.decoderLayers + 2 }, (_, layer) => ({
    ...layerFile(shape, layer, quantization),
    sha256: `layer${layer}`
  }))
  const precision = quantization === undefined ? 'float32' : quantization.bits === 8 ? 'q8' : 'q4'
  return { version: 2, shape, precision, layers, files: {}, eosTokenIds: [] }
}

/** Writes a layer's file into `blobsDir`. */
export async function writeRandomLayer({ sha256, tensors }: LayerFile, blobsDir: string): Promise<void> {
  const bytes = Uint8Array.from({ length: PATTERN_BYTES }, () => Math.random() * 256)
  const floats = randomFloats()
  const file = await open(join(blobsDir, sha256), 'w')
  try {
    for (const tensor of tensors) {
      for (let done = 0; done < tensor.bytes; done += PATTERN_BYTES) {
        // Rows that are alike would send tokens to the same few experts.
        const values = tensor.name === 'router' ? randomFloats() : floats
        const pattern = tensor.type === 'uint8' ? bytes : new Uint8Array(values.buffer)
        const part = pattern.subarray(0, Math.min(pattern.length, tensor.bytes - done))
        await file.write(part, 0, part.length, tensor.offset + done)
      }
    }
  } finally {
    await file.close()
  }
}

function randomFloats(): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: PATTERN_BYTES / 4 }, () => (Math.random() - 0.5) / 64)
}

function layerFile(
  shape: ModelShape,
  layer: number,
  quantization: Quantization | undefined
): Omit<LayerFile, 'sha256'> {
  const tensors: TensorEntry[] = []
  for (const tensor of layerTensors(shape, layer)) {
    const last = tensors.at(-1)
    tensors.push(...placeTensor(tensor, quantization, last === undefined ? 0 : endOf(last)))
  }
  return { bytes: endOf(tensors.at(-1)!), kind: layerKind(layer, shape.decoderLayers), tensors }
}
