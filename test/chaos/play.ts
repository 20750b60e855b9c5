import { setTimeout as delay } from 'node:timers/promises'
import type { PlannedStage } from '../../node/api.ts'
import { ask, meshOf, type Trace } from './client.ts'
import type { ChaosMesh, Device } from './mesh.ts'
import { type RecoveryTimes, recoveryTimes } from './recovery-times.ts'
import type { Kind, Moment, Round } from './round.ts'
import { strike } from './strokes.ts'
import { compare, comparePrefix, type Twins, type Verdict } from './twin.ts'

/** The longest that a first deployment takes here, in which 'recruit' falls. */
const RECRUIT_MS = 400
const PREFILL_MS = 8

export interface Played {
  round: Round
  /** What was done to which device, and where the answer really was then. Empty: the answer was over before. */
  struck: { kind: Kind; device: string; atMs: number; phase: Moment; tokensBefore: number }[]
  answer: Trace
  verdict: Verdict
  recoveries: RecoveryTimes[]
  /** Tokens came, then a recovery, then tokens again. */
  counts: boolean
}

/** Asks for an answer, disturbs it as the round says, and puts everything back as it was. */
export async function play(mesh: ChaosMesh, twins: Twins, round: Round): Promise<Played> {
  const source = mesh.devices[round.source]!
  const twin = await twins.of(round.request)
  const atToken = 1 + Math.floor(round.offset * 0.7 * twin.tokens.length)
  const struck: Played['struck'] = []
  const undo: ((over: Promise<unknown>) => Promise<void>)[] = []
  let trace: Trace | undefined
  let done = false
  const fall = (candidates: readonly string[]) => {
    if (done || struck.length > 0) return
    const victims = victimsOf(mesh, source, round, candidates)
    for (const { kind, device } of victims) {
      const phase = phaseOf(trace, round.moment)
      const tokensBefore = trace?.tokens.length ?? 0
      struck.push({ kind, device: device.name, atMs: performance.now() - sentMs, phase, tokensBefore })
      undo.push(strike(mesh, device, kind))
    }
  }
  if (round.moment === 'recruit') setTimeout(() => fall([]), round.offset * RECRUIT_MS)
  if (round.moment === 'load') void firstLease(mesh, source, () => done).then(fall)

  const sentMs = performance.now()
  const over = ask(source.address, round.request, {
    watch: (seen, event) => {
      trace = seen
      const stages = remoteOf(seen, source)
      // A deployment that is still warm is not loaded again: the next moment has to do.
      if (event.type === 'plan' && round.moment !== 'decode') {
        setTimeout(() => fall(stages), round.offset * PREFILL_MS)
      }
      if (event.type === 'text' && seen.tokens.length >= atToken) fall(stages)
      return undefined
    }
  })
  const answer = await over.finally(() => {
    done = true
  })
  await Promise.all(undo.map(back => back(over)))
  const struckMs = struck[0]?.atMs ?? 0
  const recoveries = recoveryTimes(answer, struckMs)
  const verdict = struck.some(({ kind }) => kind === 'source')
    ? comparePrefix(answer, twin)
    : compare(answer, twin)
  const counts = recoveries.some(({ tokensBefore, tokensAfter }) => tokensBefore > 0 && tokensAfter > 0)
  return { round, struck, answer, verdict, recoveries, counts }
}

/** One device for each stroke: the named ones first, then others, never the source unless it is meant. */
function victimsOf(
  { devices }: ChaosMesh,
  source: Device,
  { strokes }: Round,
  candidates: readonly string[]
): { kind: Kind; device: Device }[] {
  const others = devices.filter(device => device !== source)
  const stages = others.filter(({ peerId }) => candidates.includes(peerId))
  const rest = others.filter(device => !stages.includes(device))
  return strokes.map(({ kind, pick }) => {
    if (kind === 'source') return { kind, device: source }
    const among = stages.length > 0 ? stages : rest
    const [device] = among.splice(Math.floor(pick * among.length), 1)
    return { kind, device: device! }
  })
}

/** Progress reaches clients only with the plan; until then only `firstLease` tells recruiting from loading. */
function phaseOf(trace: Trace | undefined, moment: Moment): Moment {
  if (trace === undefined || trace.events.length === 0) return moment === 'load' ? 'load' : 'recruit'
  if (trace.tokens.length > 0) return 'decode'
  return trace.events.some(({ event }) => event.type === 'plan') ? 'prefill' : 'load'
}

/** Peers of the current plan. */
function remoteOf({ events }: Trace, source: Device): string[] {
  const planned = events.findLast(({ event }) => event.type === 'plan')?.event
  const stages: PlannedStage[] = planned?.type === 'plan' ? planned.plan.stages : []
  return stages.map(({ peerId }) => peerId).filter(peerId => peerId !== source.peerId)
}

/** Waits until peers have given the source leases that it did not have; which peers these are. */
async function firstLease(mesh: ChaosMesh, source: Device, over: () => boolean): Promise<string[]> {
  const others = mesh.devices.filter(device => device !== source)
  const leasesAt = async ({ peerId, address }: Device) => {
    // A node that is struck meanwhile says nothing.
    const { leases } = await meshOf(address).catch(() => ({ leases: [] }))
    return leases.filter(lease => lease.source === source.peerId).map(({ id }) => ({ id, peerId }))
  }
  const leases = async () => (await Promise.all(others.map(leasesAt))).flat()
  const before = new Set((await leases()).map(({ id }) => id))
  while (!over()) {
    const fresh = (await leases()).filter(({ id }) => !before.has(id))
    if (fresh.length > 0) return fresh.map(({ peerId }) => peerId)
    await delay(10)
  }
  return []
}
