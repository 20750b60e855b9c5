import type { Strategy } from '../../api.ts'
import type { SourceSession } from './source-session.ts'

/**
 * The micro-batches that can start a step now: those with a session that is ready and without one whose step is on its
 * way; where the strategy is `bubble`, none while any step is. A session that is prefilled is in no micro-batch yet.
 *
 * @param slots neighbouring slots whose sessions decode together
 */
export function startable(
  sessions: Iterable<SourceSession>,
  slots: number,
  strategy: Strategy
): SourceSession[][] {
  const microBatches = new Map<number, SourceSession[]>()
  const stepping = new Set<number>()
  for (const session of sessions) {
    const index = Math.floor(session.slot / slots)
    if (session.busy && !session.prefilling) stepping.add(index)
    else if (session.ready) {
      const ready = microBatches.get(index)
      if (ready === undefined) microBatches.set(index, [session])
      else ready.push(session)
    }
  }
  if (strategy === 'bubble' && stepping.size > 0) return []
  for (const index of stepping) microBatches.delete(index)
  return [...microBatches.values()]
}

/** Tokens of a prompt that running answers wait for: what takes longer would be missed by whoever reads one. */
const SHORT_PROMPT_TOKENS = 256

/**
 * Whether prompts on their way are to be through before a next token is drawn anywhere: where many answers matter and none by
 * itself, those that begin together draw together, as steps of several sequences take less than as many of one.
 */
export function waitForPrompts(sessions: readonly SourceSession[]): boolean {
  const prompts = sessions.filter(session => session.prefilling)
  return prompts.length > 0 && prompts.every(({ promptTokens }) => promptTokens <= SHORT_PROMPT_TOKENS)
}
