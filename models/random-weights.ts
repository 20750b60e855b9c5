import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { type LayerKind, layerKind } from './layers.ts'
import type { LayerFile, Manifest, ModelShape, Quantization, TensorEntry } from './manifest.ts'
import { endOf, layerTensors, placeTensor } from './tensors.ts'

/** Random bytes that files are filled with, again and again. */
const PATTERN_BYTES = 64 * 1024

/**
 * A manifest of a model of random weights, to time: the layers of a kind share one file, which is called by its kind.
 */
export function randomManifest(shape: ModelShape, quantization: Quantization | undefined): Manifest {
  const files = {
    embedding: layerFile('embedding', shape, quantization),
    decoder: layerFile('decoder', shape, quantization),
    head: layerFile('head', shape, quantization)
  }
  const layers = Array.from(
    { length: shape.decoderLayers + 2 },
    (_, i) => files[layerKind(i, shape.decoderLayers)]
  )
  const precision = quantization === undefined ? 'float32' : quantization.bits === 8 ? 'q8' : 'q4'
  return { version: 1, shape, precision, layers, files: {}, eosTokenIds: [] }
}

/** Writes the file of the layers of a kind into `blobsDir`. */
export async function writeRandomLayer(manifest: Manifest, kind: LayerKind, blobsDir: string): Promise<void> {
  const bytes = Uint8Array.from({ length: PATTERN_BYTES }, () => Math.random() * 256)
  const floats = Float32Array.from({ length: PATTERN_BYTES / 4 }, () => (Math.random() - 0.5) / 64)
  const file = await open(join(blobsDir, kind), 'w')
  try {
    for (const tensor of manifest.layers.find(layer => layer.kind === kind)?.tensors ?? []) {
      const pattern = tensor.type === 'uint8' ? bytes : new Uint8Array(floats.buffer)
      for (let done = 0; done < tensor.bytes; done += pattern.length) {
        const part = pattern.subarray(0, Math.min(pattern.length, tensor.bytes - done))
        await file.write(part, 0, part.length, tensor.offset + done)
      }
    }
  } finally {
    await file.close()
  }
}

/** The file of a layer without optional tensors. */
function layerFile(kind: LayerKind, shape: ModelShape, quantization: Quantization | undefined): LayerFile {
  const tensors: TensorEntry[] = []
  for (const tensor of layerTensors(kind, shape).filter(t => !t.optional)) {
    const last = tensors.at(-1)
    tensors.push(...placeTensor(tensor, quantization, last === undefined ? 0 : endOf(last)))
  }
  return { sha256: kind, bytes: endOf(tensors.at(-1)!), kind, tensors }
}
