import { setTimeout as delay } from 'node:timers/promises'
import { ask } from '../chaos/client.ts'
import { drawRequest, type Random } from '../chaos/round.ts'
import { comparePrefix, compareTogether, type Twins } from '../chaos/twin.ts'
import type { ChurnDevice } from './churn-lab.ts'

/** How the answers of one client came out. */
export interface Tally {
  equal: number
  /** Two tokens nearly tied. */
  forks: number
  /** What came was right, and the device that was asked was struck before the end. */
  cut: number
  /** What answers ended with that named what was lost. */
  named: string[]
  /** Answers that were told to come again: others have the memory or the turn, or the node is just starting. */
  refused: number
  recoveries: number
  moves: number
  tokens: number
}

export function newTally(): Tally {
  return { equal: 0, forks: 0, cut: 0, named: [], refused: 0, recoveries: 0, moves: 0, tokens: 0 }
}

const MAX_TOKENS = 96
const PAUSE_MS = 1_500
const AGAIN_MS = 1_000

interface ClientInit {
  device: ChurnDevice
  twins: Twins
  random: Random
  tally: Tally
  /** How any device is called in a message: its name, or its peer id. */
  devices: readonly ChurnDevice[]
  /** Begins nothing any more when it aborts; what is under way comes to its end. */
  until: AbortSignal
  problem(what: string): void
}

/** Asks one device, one answer after the other, and holds each against its twin. */
export async function client(init: ClientInit): Promise<void> {
  const { device, random, until } = init
  while (!until.aborted) {
    const request = drawRequest(random, MAX_TOKENS)
    await delay(random() * PAUSE_MS)
    if (until.aborted) return
    await one(init, request).catch(error => init.problem(`${device.name}: ${String(error)}`))
  }
}

async function one(
  { device, twins, tally, devices, problem }: ClientInit,
  request: ReturnType<typeof drawRequest>
): Promise<void> {
  const twin = await twins.of(request)
  const sinceMs = performance.now()
  const answer = await ask(device.address, request)
  const { end, tokens, events } = answer
  const count = (type: string) => events.filter(({ event }) => event.type === type).length
  tally.recoveries += count('recovery')
  tally.moves += count('moved')
  tally.tokens += tokens.length
  const prefix = comparePrefix(answer, twin)
  const verdict = prefix.kind === 'different' ? compareTogether(answer, twin) : prefix
  if (verdict.kind === 'different')
    return problem(`${device.name} answered otherwise than its twin: ${verdict.why}; ${JSON.stringify(end)}`)
  if (end.kind === 'done' && end.result.finishReason !== 'error') {
    if (
      tokens.length < twin.tokens.length &&
      verdict.kind === 'equal' &&
      end.result.finishReason !== 'length'
    )
      return problem(
        `${device.name} ended after ${tokens.length} of ${twin.tokens.length} tokens, with ${end.result.finishReason}`
      )
    tally[verdict.kind === 'equal' ? 'equal' : 'forks']++
    return
  }
  // An answer that has begun ends with what there is, and says why.
  const [status, message] = end.kind === 'done' ? [200, end.result.error ?? ''] : [end.status, end.message]
  if (device.wasStruck(sinceMs)) {
    tally.cut++
    await delay(AGAIN_MS)
  } else if ([429, 503].includes(status)) {
    tally.refused++
    await delay(AGAIN_MS)
  } else if (devices.some(({ name, peerId }) => namesIt(message, name, peerId))) {
    tally.named.push(message)
  } else
    problem(
      `${device.name} ended an answer with ${status} after ${tokens.length} tokens, which names nothing: ${message}`
    )
}

function namesIt(message: string, name: string, peerId: string): boolean {
  return message.includes(peerId) || new RegExp(`\\b${name}\\b`).test(message)
}
