import type { GenerateEvent, RecoveryTimes } from '../../api.ts'

/** What people want to read in a node's log of an answer's events: the losses, and what they cost. */
export function noticeOf(event: GenerateEvent): string | undefined {
  if (event.type === 'recovery') return `${event.reason}; the answer goes on without it`
  if (event.type === 'recovered') return recoveredText(event.spent)
  return undefined
}

function recoveredText({ detectMs, planMs, recruitMs, rebuildMs }: RecoveryTimes): string {
  const ms = (value: number) => `${Math.round(value)} ms`
  const parts = [
    `noticed after ${ms(detectMs)}`,
    `planned in ${ms(planMs)}`,
    `recruited in ${ms(recruitMs)}`,
    `KV cache rebuilt in ${ms(rebuildMs)}`
  ]
  return `the next token came after ${ms(detectMs + planMs + recruitMs + rebuildMs)}: ${parts.join(', ')}`
}
