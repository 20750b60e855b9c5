import { logger } from '../../models/log.ts'
import type { Manifest, ModelShape, Quantization } from '../../models/manifest.ts'
import { quantizationOf } from '../profile/profiler.ts'
import { type GpuFile, type GpuState, KEPT_REFUSALS } from './gpu-file.ts'
import { probeKey } from './probe-key.ts'

const log = logger('edgeshard:node')

/** Layers that the GPU has refused, or computed wrongly, are the CPU's for so long: what is tried again takes a load each time. */
export const GPU_REFUSAL_MS = 24 * 60 * 60_000

/** What of a model decides whether a GPU computes its layers. */
export interface LayersKind {
  shape: ModelShape
  quantization?: Quantization | undefined
}

export function kindOf(manifest: Manifest): LayersKind {
  return { shape: manifest.shape, quantization: quantizationOf(manifest) }
}

export interface GpuRefusalsInit {
  file: Pick<GpuFile, 'addRefusal'>
  driver: string
  /** Threads that the CPU computes with. */
  threads: number
  /** Those of earlier runs. */
  refusals: GpuState['refusals']
  /** One line for people. */
  onNotice: (message: string) => void
  /** Milliseconds since 1970, as they are remembered. @default Date.now */
  now?: () => number
}

/** Which models' layers this device's GPU has refused: they are loaded and timed on the CPU meanwhile. */
export class GpuRefusals {
  readonly #init: GpuRefusalsInit
  readonly #now: () => number
  readonly #refusals: Map<string, GpuState['refusals'][number]>

  constructor(init: GpuRefusalsInit) {
    this.#init = init
    this.#now = init.now ?? Date.now
    this.#refusals = new Map(init.refusals.map(refusal => [refusal.key, refusal]))
  }

  /** Why the layers are not to be tried there now; undefined where they may. */
  reasonOf(kind: LayersKind): string | undefined {
    if (this.#refusals.size === 0) return undefined
    const refusal = this.#refusals.get(this.#keyOf(kind))
    if (refusal === undefined) return undefined
    const ageMs = this.#now() - refusal.atMs
    // What lies ahead was written by a clock that was wrong.
    return ageMs >= 0 && ageMs < GPU_REFUSAL_MS ? refusal.reason : undefined
  }

  /** The GPU has refused such layers, or computes them wrongly. */
  add(kind: LayersKind, reason: string): void {
    const refusal = { key: this.#keyOf(kind), atMs: this.#now(), reason }
    // Behind the others where it was there before: the first one is the oldest.
    this.#refusals.delete(refusal.key)
    this.#refusals.set(refusal.key, refusal)
    const [oldest] = this.#refusals.keys()
    if (this.#refusals.size > KEPT_REFUSALS) this.#refusals.delete(oldest!)
    const { file, driver, onNotice } = this.#init
    const hours = GPU_REFUSAL_MS / 3_600_000
    onNotice(
      `the GPU does not compute these layers (${reason}): the CPU has their model for ${hours} h; with \`edgeshard profile --providers\` the next start tries again`
    )
    void file
      .addRefusal(driver, refusal)
      .catch(log.passOver('what the GPU refuses cannot be remembered; the next start tries it'))
  }

  /** The layers are computed there: what was refused once is forgotten. */
  forget(kind: LayersKind): boolean {
    return this.#refusals.size > 0 && this.#refusals.delete(this.#keyOf(kind))
  }

  #keyOf({ shape, quantization }: LayersKind): string {
    const { driver, threads } = this.#init
    return probeKey({ shape, quantization, threads }, driver)
  }
}
