import type { Architecture, Setting } from './architectures/architecture.ts'

/** The number that a checkpoint gives for a setting, or has by default; undefined where there is none. */
export type ReadSetting = (setting: Setting) => number | undefined

/** All settings of an architecture that are numbers under keys of its own. */
export function settingsOf({ scales, softcaps, attentionScale, experts }: Architecture): Setting[] {
  const { embedding, residual, logits, logitDivisor } = scales ?? {}
  const all = [
    residual,
    logits,
    logitDivisor,
    softcaps?.attention,
    softcaps?.logits,
    attentionScale,
    experts?.scale
  ]
  return [...all, typeof embedding === 'string' ? undefined : embedding].filter(
    setting => setting !== undefined
  )
}

/** What weights are changed by when they are imported. */
export interface Folds {
  /** Factors: of the embedding, of what each half of a layer adds to the stream, of what experts make and their router sees, and of the logits. */
  embedding: number
  residual: number
  experts: number
  router: number
  logits: number
  /** Added to the weights of norms. */
  norms: number
}

export function foldsOf(
  { scales = {}, experts }: Architecture,
  hiddenSize: number,
  read: ReadSetting,
  norms: number
): Folds {
  const { embedding, residual, router, logits, logitDivisor } = scales
  const factor = (setting: Setting | undefined) => (setting && read(setting)) ?? 1
  return {
    embedding: embedding === 'sqrt(hidden)' ? Math.sqrt(hiddenSize) : factor(embedding),
    residual: factor(residual),
    experts: factor(experts?.scale),
    router: router === undefined ? 1 : 1 / Math.sqrt(hiddenSize),
    logits: factor(logits) / factor(logitDivisor),
    norms
  }
}
