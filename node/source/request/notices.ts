import type { GenerateEvent, GenerateResult, Move, PlannedStage, RecoveryTimes } from '../../api.ts'

/**
 * What people want to read in a node's log of an answer's events: the losses, how they ended, the moves, what they cost, and links
 * that are missing.
 */
export function noticeOf(event: GenerateEvent): string | undefined {
  // Whether the rest can hold the model is known when it is placed again, and that it goes on with the next token.
  if (event.type === 'recovery') return `${event.reason}; its layers are placed anew`
  if (event.type === 'recovered') return recoveredText(event.spent)
  if (event.type === 'moved') return movedText(event.move)
  if (event.type === 'plan') return relayText(event.plan.stages)
  if (event.type === 'done') return endedText(event.result)
  return undefined
}

const WHY: Readonly<Record<Move['reason'], string>> = {
  drained: 'a device is drained',
  faster: 'it is faster there',
  lost: 'a device was lost and others stood by'
}

function movedText({ reason, to, tokens, predicted, spent }: Move): string {
  const ms = (value: number) => `${Math.round(value)} ms`
  const why = WHY[reason]
  const { beforeMs, afterMs, savedMs, costMs } = predicted
  return (
    `an answer went over to ${to.map(({ name }) => name).join(', ')} at token ${tokens}, as ${why}: the next token came after ` +
    `${ms(spent.gapMs)}; loaded in ${ms(spent.loadMs)}, caught up in ${ms(spent.catchUpMs)}; predicted ${ms(afterMs)} a token ` +
    `instead of ${ms(beforeMs)}, ${ms(savedMs)} saved for ${ms(costMs)}`
  )
}

/** Why is told to who asked: of an error that is no loss nobody knows here what it quotes. */
function endedText({ finishReason, recoveries, tokens }: GenerateResult): string | undefined {
  if (finishReason !== 'error' || recoveries === 0) return undefined
  return `the answer ended unfinished, at token ${tokens.length}`
}

function relayText(stages: readonly PlannedStage[]): string | undefined {
  const pairs = stages.flatMap(({ name, via }, at) =>
    via === undefined ? [] : [`${name} and ${stages[at + 1]!.name}`]
  )
  if (pairs.length === 0) return undefined
  return `${pairs.join(', ')} cannot reach each other: what they send each other goes through this device, which takes longer`
}

function recoveredText({ detectMs, planMs, recruitMs, rebuildMs }: RecoveryTimes): string {
  const ms = (value: number) => `${Math.round(value)} ms`
  const parts = [
    `noticed after ${ms(detectMs)}`,
    `planned in ${ms(planMs)}`,
    `recruited in ${ms(recruitMs)}`,
    `KV cache rebuilt in ${ms(rebuildMs)}`
  ]
  return `the answer goes on: the next token came after ${ms(detectMs + planMs + recruitMs + rebuildMs)}: ${parts.join(', ')}`
}
