import type { Predicted } from './api.ts'
import { formatMs } from './units.ts'

/** A prediction of a request's first token, by what it waits for. */
export type PredictedFirst = Pick<Predicted, 'ttftMs' | 'loadMs' | 'waitedMs'>

/** When a request's first token was to be there, from its start: what it had waited, what it loads, and its prompt, in ms. */
export function predictedFirstMs({ ttftMs, loadMs = 0, waitedMs = 0 }: PredictedFirst): number {
  return waitedMs + loadMs + ttftMs
}

/**
 * The same as people read it, which is measured from the same moment: `1.30 s (planning and waiting 400.0 ms, loading 890.0 ms,
 * the prompt 10.0 ms)`.
 */
export function predictedFirstText(predicted: PredictedFirst): string {
  const { ttftMs, loadMs = 0, waitedMs = 0 } = predicted
  const parts = [
    ...(waitedMs > 0 ? [`planning and waiting ${formatMs(waitedMs)}`] : []),
    ...(loadMs > 0 ? [`loading ${formatMs(loadMs)}`] : []),
    `the prompt ${formatMs(ttftMs)}`
  ]
  const whole = formatMs(predictedFirstMs(predicted))
  return parts.length === 1 ? whole : `${whole} (${parts.join(', ')})`
}
