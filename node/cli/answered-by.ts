import type { GenerateRequest, GenerateResult } from '../api.ts'
import type { Client } from '../client/index.ts'
import { placeName } from '../place-name.ts'
import type { Plan, Refusal } from '../plan/problem.ts'
import { refusalText } from '../refusal-text.ts'
import { shortId, shortNames, withNames } from '../short-names.ts'
import { listed } from '../there-is.ts'
import { formatMs } from '../units.ts'
import { clean } from './format.ts'
import { guessedWords, timesLines } from './run-progress.ts'

/** How long an answer's last line may wait for the planner's reasons; it is written without them then. */
const REASONS_TIMEOUT_MS = 3_000

/** Why a plan is as it is, and what its devices are called, by peer id. */
export interface Reasons {
  plan: Plan | Refusal
  names: ReadonlyMap<string, string>
}

/**
 * What the planner says of a request like the one that was answered, whose length nobody knew before; where that fits nowhere, of
 * one as long as the answer has become. Undefined where it says nothing in time.
 */
export async function reasonsFor(
  { promptTokens, tokens }: GenerateResult,
  request: Pick<GenerateRequest, 'model' | 'maxTokens' | 'objective' | 'privacy' | 'speculate' | 'draft'>,
  { node, signal }: { node: Pick<Client, 'plan' | 'mesh'>; signal: AbortSignal }
): Promise<Reasons | undefined> {
  const { model, maxTokens: newTokens, objective, privacy, speculate, draft } = request
  const needs = {
    ...(model !== undefined && { model }),
    ...(objective !== undefined && { objective }),
    ...(privacy !== undefined && { privacy }),
    ...(speculate !== undefined && { speculate }),
    ...(draft !== undefined && { draft }),
    ...(newTokens !== undefined && { newTokens }),
    promptTokens
  }
  const inTime = { signal: AbortSignal.any([signal, AbortSignal.timeout(REASONS_TIMEOUT_MS)]) }
  try {
    const [expected, { self, peers }] = await Promise.all([node.plan(needs, inTime), node.mesh(inTime)])
    const plan = expected.feasible
      ? expected
      : await node.plan({ ...needs, newTokens: Math.max(1, tokens.length) }, inTime)
    return { plan, names: shortNames([self, ...peers]) }
  } catch {
    // The answer is there, and is no worse for it: the line says who computed it, and not why.
    return undefined
  }
}

/** What was predicted of an answer beside what it took, and all that the planner says of its plan, a line each. */
export function explanationLines(result: GenerateResult, reasons: Reasons | undefined): string[] {
  return [
    ...timesLines(result),
    ...(reasons === undefined ? ['the node said no reasons'] : reasonLines(result, reasons))
  ]
}

function reasonLines(result: GenerateResult, { plan, names }: Reasons): string[] {
  if (!plan.feasible)
    return [clean(withNames(`placed anew it would fit nowhere: ${refusalText(plan)}`, names))]
  const { stages, left, binds = [], predicted } = plan
  const ranges = stages.map(
    ({ device, processor, layers: [start, end] }) =>
      `${placeName({ id: device, processor })} [${start}, ${end})`
  )
  const best = plan.optimal
    ? 'no plan is better'
    : `within ${(100 * plan.gap).toFixed(2)} % of the best there can be`
  // The answer's own times stand above; those of another plan are of what is known behind the answer.
  const planned = isPlanOf(result, plan)
    ? `planned: ${ranges.join(' -> ')}, ${best}`
    : `placed anew: ${ranges.join(' -> ')}, ${formatMs(predicted.tpotMs)} a token${guessedWords(predicted)} by what is known now; ${best}`
  return [
    planned,
    ...left.map(
      ({ device, processor, reason }) => `not used: ${placeName({ id: device, processor })}: ${reason}`
    ),
    ...binds.map(line => `held up by the ${line}`)
  ].map(line => clean(withNames(line, names)))
}

/** Whether an answer was computed by this plan at its end. */
function isPlanOf({ plan: { stages } }: GenerateResult, { stages: planned }: Plan): boolean {
  const placed = stages.map(({ peerId, processor, layers }) => [peerId, processor, ...layers])
  const anew = planned.map(({ device, processor, layers }) => [device, processor, ...layers])
  return JSON.stringify(placed) === JSON.stringify(anew)
}

/**
 * Who computed an answer, how fast, and why they did, in one line: `answered by desktop alone, 5.5 ms a token; laptop is
 * not used: every plan with it takes at least 12.0 ms a token, ...`.
 *
 * @param options `explained`: all reasons follow, so that this line need not have one
 */
export function answeredBy(
  result: GenerateResult,
  reasons?: Reasons,
  { explained = false }: { explained?: boolean } = {}
): string {
  const { stages } = result.plan
  const ids = [...new Set(stages.map(({ peerId }) => peerId))]
  const nameOf = (id: string) => {
    const name = reasons?.names.get(id) ?? stages.find(({ peerId }) => peerId === id)?.name
    return clean(name ?? shortId(id))
  }
  const names = ids.map(nameOf)
  const who = names.length === 1 ? `${names[0]} alone` : listed(names)
  const lost = result.recoveries === 0 ? '' : ` after ${result.recoveries} lost on the way`
  const speed =
    result.tpotMs > 0 ? `${formatMs(result.tpotMs)} a token` : `first token after ${formatMs(result.ttftMs)}`
  const why = reasons === undefined || explained ? undefined : whyThese(ids, reasons, nameOf)
  return `answered by ${who}${lost}, ${speed}${why === undefined ? '' : `; ${why}`}`
}

function whyThese(
  ids: readonly string[],
  { plan, names }: Reasons,
  nameOf: (id: string) => string
): string | undefined {
  // The mesh has changed since.
  if (!plan.feasible) return undefined
  const planned = [...new Set(plan.stages.map(({ device }) => device))]
  if (planned.length !== ids.length || planned.some(id => !ids.includes(id))) {
    return `placed anew it would be ${listed(planned.map(nameOf))}`
  }
  const [first, ...others] = plan.left
  const rest = others.length === 0 ? '' : ` (and ${others.length} more: edgeshard plan)`
  if (first !== undefined)
    return clean(
      withNames(
        `${placeName({ id: first.device, processor: first.processor })} is not used${rest}: ${first.reason}`,
        names
      )
    )
  if (names.size === 1) return 'there is no other device'
  return plan.advice === undefined
    ? undefined
    : `what would help most: ${clean(withNames(plan.advice, names))}`
}
