import { logger } from '../../models/log.ts'
import type { GpuFile, GpuState } from './gpu-file.ts'

const log = logger('edgeshard:node')

/** After its process has ended by itself, or was killed as it hung, the GPU is left alone for so long. */
export const GPU_REST_MS = 10 * 60_000
/** A timer may be a little early. */
const TIMER_MARGIN_MS = 100
/** A driver that has crashed so often is not tried again until somebody says so. */
export const MAX_GPU_CRASHES = 3

export interface GpuGuardInit {
  file: Pick<GpuFile, 'addCrash'>
  driver: string
  /** Crashes of earlier runs. */
  crashes: GpuState['crashes']
  now: () => number
  /** One line for people. */
  onNotice: (message: string) => void
  /** Called when it may be tried again. */
  onRested: () => void
}

/** Whether the GPU may be tried: what a driver does must not hurt this device again and again. */
export class GpuGuard {
  readonly #init: GpuGuardInit
  readonly #crashes: GpuState['crashes']
  #restsUntilMs = Number.NEGATIVE_INFINITY
  #resting: NodeJS.Timeout | undefined

  constructor(init: GpuGuardInit) {
    this.#init = init
    this.#crashes = [...init.crashes]
  }

  /** Why it may not be tried now; undefined where it may. */
  get refusal(): string | undefined {
    const last = this.#crashes.at(-1)
    if (this.#crashes.length >= MAX_GPU_CRASHES) {
      return `the GPU's driver has crashed ${this.#crashes.length} times, the last time with ${last?.reason}; \`edgeshard profile --providers\` tries it again`
    }
    const restMs = this.#restsUntilMs - this.#init.now()
    return restMs > 0 ? `the GPU rests for ${Math.ceil(restMs / 60_000)} min after a crash` : undefined
  }

  /** Its process has ended by itself, or was killed as it hung. */
  crashed(reason: string): void {
    const crash = { atMs: Date.now(), reason }
    this.#crashes.push(crash)
    this.#restsUntilMs = this.#init.now() + GPU_REST_MS
    clearTimeout(this.#resting)
    if (this.#crashes.length < MAX_GPU_CRASHES)
      this.#resting = setTimeout(this.#init.onRested, GPU_REST_MS + TIMER_MARGIN_MS).unref()
    const then =
      this.#crashes.length >= MAX_GPU_CRASHES
        ? 'it has been so often that it is not tried again until `edgeshard profile --providers` has run here'
        : `layers are computed on the CPU for the next ${GPU_REST_MS / 60_000} min`
    this.#init.onNotice(`the process of the GPU ended (${reason}): ${then}`)
    const { file, driver } = this.#init
    void file
      .addCrash(driver, crash)
      .catch(log.passOver('a crash of the GPU cannot be remembered; the next start does not count it'))
  }

  /** Tells of nothing any more. */
  stop(): void {
    clearTimeout(this.#resting)
  }
}
