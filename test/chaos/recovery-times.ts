import type { RecoveryTimes as Told } from '../../node/api.ts'
import type { Trace } from './client.ts'

/** How an answer went on after a loss, in ms; null for what did not happen or cannot be seen. */
export interface RecoveryTimes {
  /** Time from the stroke, or from the loss before, until the source says that a stage is lost. */
  detectMs: number | null
  /** Until the first device of the new deployment reports that it fetches or loads. */
  planMs: number | null
  /** Until the new deployment is ready. */
  loadMs: number | null
  /** Until the next token: prompt and known tokens go through the new stages. */
  prefillMs: number | null
  /** Time from the stroke until the next token. */
  totalMs: number | null
  tokensBefore: number
  tokensAfter: number
  reason: string
  /** The source's own account, which begins with the last token before the loss. */
  told: Told | null
}

/** Every recovery of an answer; `struckMs` is when the first stroke fell, by the trace's clock. */
export function recoveryTimes({ events, tokens }: Trace, struckMs: number): RecoveryTimes[] {
  const losses = events.flatMap(({ event }, at) => (event.type === 'recovery' ? [at] : []))
  return losses.map((at, nth) => {
    const { atMs, event } = events[at]!
    const before = nth === 0 ? struckMs : Math.max(struckMs, events[losses[nth - 1]!]!.atMs)
    const until = events[losses[nth + 1] ?? Number.POSITIVE_INFINITY]?.atMs ?? Number.POSITIVE_INFINITY
    const after = events.slice(at + 1).filter(seen => seen.atMs <= until)
    const planMs = after.find(({ event }) => event.type === 'progress')?.atMs
    const readyMs = after.find(({ event }) => event.type === 'plan')?.atMs
    const recovered = after.find(({ event }) => event.type === 'recovered')?.event
    const nextMs = tokens.find(token => token.atMs > atMs && token.atMs <= until)?.atMs
    return {
      detectMs: atMs - before,
      planMs: difference(planMs ?? readyMs, atMs),
      loadMs: difference(readyMs, planMs),
      prefillMs: difference(nextMs, readyMs),
      totalMs: difference(nextMs, struckMs),
      tokensBefore: tokens.filter(token => token.atMs <= atMs).length,
      tokensAfter: tokens.filter(token => token.atMs > atMs).length,
      reason: event.type === 'recovery' ? event.reason : '',
      told: recovered?.type === 'recovered' ? recovered.spent : null
    }
  })
}

function difference(later: number | undefined, earlier: number | undefined): number | null {
  return later === undefined || earlier === undefined ? null : later - earlier
}
