import type { DecodeInput, DecodeOutput, ShardBatch, ShardSession } from './runtime.ts'

/** A decode step of a batch as the step of any kind that it is. */
export async function decodeByStep(
  batch: Pick<ShardBatch, 'step'>,
  sessions: readonly ShardSession[],
  { positions, input, masks = [] }: DecodeInput
): Promise<DecodeOutput> {
  const parts = positions.map((position, i) => ({ position, tokens: 1, draws: 1, mask: masks[i] }))
  const output = await batch.step(sessions, { parts, input })
  if (output.kind === 'hidden') return output
  return { kind: 'tokens', tokens: output.drawn.map(([token]) => token), computeMs: output.computeMs }
}
