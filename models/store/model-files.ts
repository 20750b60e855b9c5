import type { LayerRange } from '../layers.ts'
import type { BlobRef, Manifest } from '../manifest.ts'
import { blobError, contentProblem, sizeProblem } from './blob-file.ts'
import type { StoredModel } from './catalog.ts'

/** Path of a store's blobs. */
export type BlobPath = (sha256: string) => string

/** Every file of a model but its manifest. */
export function filesOf({ layers, guessing, files }: Manifest): BlobRef[] {
  return [...layers, ...(guessing === undefined ? [] : [guessing.layer]), ...Object.values(files)]
}

/** The layers that are here, as ascending ranges that do not touch. */
export async function heldLayers(manifest: Manifest, blobPath: BlobPath): Promise<LayerRange[]> {
  const held: [number, number][] = []
  for (const [index, layer] of manifest.layers.entries()) {
    if ((await sizeProblem(blobPath(layer.sha256), layer)) !== undefined) continue
    const last = held.at(-1)
    if (last?.[1] === index) last[1] = index + 1
    else held.push([index, index + 1])
  }
  return held
}

/**
 * Reads files and compares them with their SHA-256: those of `range`, which must be here, or all that are here.
 *
 * @throws {BlobError} naming the model, the layer or file, and the path.
 */
export async function verifyModel(
  { name, manifest }: StoredModel,
  blobPath: BlobPath,
  { range, ...options }: { range?: LayerRange; signal?: AbortSignal }
): Promise<void> {
  const [start, end] = range ?? [0, manifest.layers.length]
  for (let index = start; index < end; index++) {
    const layer = manifest.layers[index]!
    await verifyBlob(`model ${name}, layer ${index}`, layer, blobPath, range === undefined, options)
  }
  if (manifest.guessing !== undefined) {
    // Only who drafts has it.
    const { layer } = manifest.guessing
    await verifyBlob(`model ${name}, the layer that guesses`, layer, blobPath, true, options)
  }
  for (const [file, ref] of Object.entries(manifest.files)) {
    await verifyBlob(`model ${name}, ${file}`, ref, blobPath, range === undefined, options)
  }
}

/** @throws {BlobError} */
export async function verifyBlob(
  what: string,
  ref: BlobRef,
  blobPath: BlobPath,
  mayMiss: boolean,
  options: { signal?: AbortSignal }
): Promise<void> {
  const path = blobPath(ref.sha256)
  const problem = await contentProblem(path, ref, options)
  if (problem === undefined || (mayMiss && problem === 'missing')) return
  throw blobError(what, path, ref, problem)
}
