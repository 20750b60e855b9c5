/** What would make a model fit that fits nowhere: memory on a device, or fewer tokens; each by planning again. */

import { placeName } from '../place-name.ts'
import { formatBytes } from '../units.ts'
import { segmentBytes } from './cost.ts'
import { isAtSource } from './places.ts'
import type { Problem } from './problem.ts'
import { roomTokens, TOKEN_STEP } from './room-words.ts'

/** Devices that are tried, the source among them: the text has room for one. */
const MAX_TRIED = 8
/** An amount is found to within this share of what the model needs. */
const PRECISION = 2 ** -10

/**
 * The least change of either kind, as people read it: `with 1.2 GiB more on desk, or with room for 512 tokens instead of
 * 4096`. Where no number of tokens is enough by itself, what is missing for the fewest: `with 1.2 GiB more on desk, or with
 * 0.7 GiB more on desk and room for 256 tokens instead of 4096`. Undefined where none was found until `expired`.
 *
 * @param fits whether there is a plan
 */
export function remedies(
  problem: Problem,
  fits: (problem: Problem) => boolean,
  expired: () => boolean
): string | undefined {
  const memory = leastMemory(problem, fits, expired)
  const tokens = mostTokens(problem, fits, expired)
  const instead = `instead of ${roomTokens(problem)}`
  const fewest = fewestTokens(problem)
  const both =
    tokens === undefined && fewest < roomTokens(problem)
      ? leastMemory(withTokens(problem, fewest), fits, expired)
      : undefined
  const saves = both !== undefined && (memory === undefined || both.bytes < memory.bytes)
  const ways = [
    ...(memory === undefined ? [] : [`with ${formatBytes(memory.bytes)} more on ${memory.id}`]),
    ...(tokens === undefined ? [] : [`with room for ${tokens} tokens ${instead}`]),
    ...(saves
      ? [`with ${formatBytes(both.bytes)} more on ${both.id} and room for ${fewest} tokens ${instead}`]
      : [])
  ]
  return ways.length === 0 ? undefined : ways.join(', or ')
}

/** The device on which least more would do; of equal ones the source, then the first; of a device with processors, on one of them. */
function leastMemory(
  problem: Problem,
  fits: (problem: Problem) => boolean,
  expired: () => boolean
): { id: string; bytes: number } | undefined {
  const { devices, layers, source, workload } = problem
  const whole = segmentBytes(problem, { device: source, start: 0, end: layers.length }, workload.batch.min)
  const withMore = (index: number, bytes: number): Problem => ({
    ...problem,
    devices: devices.map((device, at) =>
      at === index ? { ...device, memoryBytes: device.memoryBytes + bytes } : device
    )
  })
  const places = [...devices.keys()]
  const others = places.filter(at => !isAtSource(problem, at))
  const order = [...places.filter(at => isAtSource(problem, at)), ...others].slice(0, MAX_TRIED)
  let best: { id: string; bytes: number } | undefined
  for (const index of order) {
    let tooFew = 0
    let enough = best?.bytes ?? whole
    if (expired()) return best
    if (!fits(withMore(index, enough))) continue
    while (enough - tooFew > whole * PRECISION) {
      if (expired()) return best
      const middle = (tooFew + enough) / 2
      if (fits(withMore(index, middle))) enough = middle
      else tooFew = middle
    }
    if (best === undefined || enough < best.bytes)
      best = { id: placeName(devices[index]!), bytes: Math.ceil(enough) }
  }
  return best
}

/** The most tokens of KV cache that fit, in whole steps, where the prompt and a token behind it fit into them. */
function mostTokens(
  problem: Problem,
  fits: (problem: Problem) => boolean,
  expired: () => boolean
): number | undefined {
  const within = (tokens: number) => fits(withTokens(problem, tokens))
  let few = fewestTokens(problem) / TOKEN_STEP
  let tooMany = Math.ceil(problem.workload.contextTokens / TOKEN_STEP)
  if (few >= tooMany || expired() || !within(few * TOKEN_STEP)) return undefined
  while (tooMany - few > 1) {
    if (expired()) return undefined
    const middle = Math.floor((few + tooMany) / 2)
    if (within(middle * TOKEN_STEP)) few = middle
    else tooMany = middle
  }
  return few * TOKEN_STEP
}

/** Tokens of the least KV cache that the prompt and a token behind it fit into. */
function fewestTokens({ workload: { promptTokens } }: Problem): number {
  return Math.max(1, Math.ceil((promptTokens + 1) / TOKEN_STEP)) * TOKEN_STEP
}

/** The same with room for so many tokens. */
function withTokens(problem: Problem, tokens: number): Problem {
  // A cache has a row more than its tokens (slotTokens of models/runtime/memory.ts).
  return { ...problem, workload: { ...problem.workload, contextTokens: tokens + 1 } }
}
