import type { Predicted } from './api.ts'

/** When a request's first token was to be there, from its start: what it had waited, what it loads, and its prompt, in ms. */
export function predictedFirstMs({
  ttftMs,
  loadMs = 0,
  waitedMs = 0
}: Pick<Predicted, 'ttftMs' | 'loadMs' | 'waitedMs'>): number {
  return waitedMs + loadMs + ttftMs
}
