import { type ChaosMesh, whole } from './mesh.ts'
import { type Played, play } from './play.ts'
import type { RecoveryTimes } from './recovery-times.ts'
import { atRest, Baseline } from './rest.ts'
import type { Round } from './round.ts'
import type { Twins } from './twin.ts'

export interface SeriesResult {
  played: Played[]
  /** Everything that was not as it must be. */
  problems: string[]
}

/** Plays rounds one after the other; after each, nothing may be left of it and every device must be back. */
export async function series(
  mesh: ChaosMesh,
  twins: Twins,
  rounds: readonly Round[],
  say: (line: string) => void
): Promise<SeriesResult> {
  const played: Played[] = []
  const problems: string[] = []
  const baseline = new Baseline()
  await whole(mesh)
  for (const [nth, round] of rounds.entries()) {
    const one = await play(mesh, twins, round)
    played.push(one)
    const where = `round ${nth}`
    say(`${where}: ${line(one, mesh)}`)
    const { verdict } = one
    if (verdict.kind === 'different') problems.push(`${where}: not the undisturbed answer: ${verdict.why}`)
    try {
      await whole(mesh)
      await atRest(mesh, baseline)
    } catch (error) {
      const problem = `${where}: ${(error as Error).message}`
      say(`  ${problem}`)
      problems.push(problem)
    }
    baseline.note(mesh)
  }
  return { played, problems }
}

function line({ round, struck, answer, verdict, recoveries }: Played, { devices }: ChaosMesh): string {
  const blows = struck.map(
    ({ kind, device, phase, atMs, tokensBefore }) =>
      `${kind} ${device} at ${ms(atMs)} in ${phase}${tokensBefore > 0 ? ` after ${tokensBefore} tokens` : ''}`
  )
  const back = recoveries.map(
    ({ reason, detectMs, planMs, loadMs, prefillMs, totalMs, told }) =>
      `${reason.replaceAll(/12D3\w+/g, 'it').slice(0, 120)}: detect ${ms(detectMs)} plan ${ms(planMs)} load ${ms(loadMs)} prefill ${ms(prefillMs)}, next token ${ms(totalMs)} after the blow` +
      (told === null ? '' : ` (the source: ${account(told)})`)
  )
  const end =
    answer.end.kind === 'done' ? answer.end.result.finishReason : `${answer.end.status} ${answer.end.message}`
  return [
    `${devices[round.source]!.name} asked`,
    blows.join(' + ') || `(over before its ${round.moment})`,
    ...back,
    `${answer.tokens.length} tokens, ${end}`,
    verdict.kind === 'fork' ? `fork at ${verdict.at}, margin ${verdict.margin}` : verdict.kind
  ].join(' | ')
}

function account({ detectMs, planMs, recruitMs, rebuildMs }: NonNullable<RecoveryTimes['told']>): string {
  return `detect ${ms(detectMs)} plan ${ms(planMs)} recruit ${ms(recruitMs)} rebuild ${ms(rebuildMs)}`
}

export function ms(value: number | null): string {
  return value === null ? '-' : `${value.toFixed(value < 10 ? 1 : 0)} ms`
}
