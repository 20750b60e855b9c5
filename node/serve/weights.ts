import type { LayerRange } from '../../models/layers.ts'
import {
  type BlobRef,
  MAX_MANIFEST_BYTES,
  type Manifest,
  modelId,
  parseManifest
} from '../../models/manifest.ts'
import type { ModelStore } from '../../models/store/store.ts'
import type { Mesh } from '../mesh/index.ts'
import { ManifestUnavailableError } from './errors.ts'

/** Progress is told so many times at most, however many pieces a file comes in. */
const PROGRESS_STEPS = 100

export interface WeightsComponents {
  store: ModelStore
  mesh: Pick<Mesh, 'fetchBlob' | 'fetchRaw' | 'nameOf'>
  /** Called when the store holds more than before. */
  onStored: () => void
}

/**
 * The manifest of a model, from the store, else from one of `holders` (it is then stored under `name`, or under its
 * id where another model has that name).
 *
 * @throws {ManifestUnavailableError} with what each holder said
 */
export async function obtainManifest(
  { store, mesh, onStored }: WeightsComponents,
  model: { id: string; name: string },
  holders: readonly string[],
  { signal }: { signal: AbortSignal }
): Promise<Manifest> {
  const held = await store.list()
  const own = held.find(({ id }) => id === model.id)
  if (own !== undefined) return own.manifest
  const said: string[] = []
  for (const peerId of holders) {
    try {
      const bytes = await collect(mesh.fetchRaw(peerId, model.id, { maxBytes: MAX_MANIFEST_BYTES, signal }))
      if (modelId(bytes) !== model.id) throw new Error('it sent another manifest than it was asked for')
      const manifest = parseManifest(bytes)
      const taken = held.some(({ name }) => name === model.name)
      await store.addModel(taken ? `${model.name.slice(0, 50)}-${model.id.slice(0, 8)}` : model.name, bytes)
      onStored()
      return manifest
    } catch (error) {
      signal.throwIfAborted()
      said.push(`${mesh.nameOf(peerId)}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  throw new ManifestUnavailableError(
    `the manifest of ${model.name} cannot be had: ${said.join('; ') || 'no connected peer holds the model'}`
  )
}

/** The files of a layer range that the store does not hold, or holds damaged. */
export async function missingLayers(
  store: ModelStore,
  manifest: Manifest,
  [start, end]: LayerRange
): Promise<BlobRef[]> {
  const missing = new Map<string, BlobRef>()
  for (const layer of manifest.layers.slice(start, end)) {
    if (!(await store.intact(layer))) missing.set(layer.sha256, layer)
  }
  return [...missing.values()]
}

/**
 * Brings files into the store from whoever of `holders` has them.
 *
 * @throws {BlobUnavailableError} naming the file and what each holder said
 */
export async function obtainBlobs(
  { store, mesh, onStored }: WeightsComponents,
  refs: readonly BlobRef[],
  holders: readonly string[],
  { signal, onProgress }: { signal: AbortSignal; onProgress?: (done: number, total: number) => void }
): Promise<void> {
  const total = refs.reduce((sum, { bytes }) => sum + bytes, 0)
  const step = total / PROGRESS_STEPS
  let before = 0
  let reported = 0
  for (const ref of refs) {
    await mesh.fetchBlob(ref, holders, bytes => store.putBlob(ref, bytes, { signal }), {
      signal,
      onProgress: received => {
        const done = before + received
        if (done < total && done - reported < step) return
        reported = done
        onProgress?.(done, total)
      }
    })
    before += ref.bytes
  }
  if (refs.length > 0) onStored()
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  for await (const chunk of source) chunks.push(chunk)
  return Buffer.concat(chunks)
}
