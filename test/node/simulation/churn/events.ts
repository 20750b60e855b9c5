import { pickOf, type Random } from '../../../chaos/round.ts'

/** What can happen to a mesh of simulated devices, and how often beside the others. */
const WEIGHTS = {
  join: 6,
  leave: 4,
  /** Connections break, and are made again. */
  drop: 8,
  restart: 8,
  sleep: 10,
  /** Two devices cannot reach each other; others reach both. */
  part: 6,
  /** One does not hear another one. */
  deafen: 5,
  /** A link has another rate. */
  drift: 8,
  /** A device computes slower for a while. */
  busy: 6,
  drain: 6,
  /** The time of day is set, forwards or back; clocks that only count go on. */
  clock: 4,
  'disk-full': 4,
  /** What computes ends, and all that is loaded with it. */
  crash: 4,
  'load-fails': 3,
  'step-fails': 2,
  /** Numbers that are none come out of a device. */
  damage: 2
} as const

export type EventKind = keyof typeof WEIGHTS

export const EVENT_KINDS = Object.keys(WEIGHTS) as EventKind[]

const DRAWN = EVENT_KINDS.flatMap(kind => Array<EventKind>(WEIGHTS[kind]).fill(kind))

/** One event, drawn before it is known what there is then to happen to. */
export interface ChurnEvent {
  /** Simulated ms since the event before. */
  afterMs: number
  kind: EventKind
  /** Which device, in [0, 1) of those that there are; `other` is the second one of a pair. */
  pick: number
  other: number
  /** How much of it, in [0, 1). */
  amount: number
  /** How long it lasts. */
  lastsMs: number
}

export function drawEvent(random: Random, meanMs: number): ChurnEvent {
  return {
    afterMs: waitOf(random, meanMs),
    kind: pickOf(random, DRAWN),
    pick: random(),
    other: random(),
    amount: random(),
    lastsMs: 500 + waitOf(random, 15_000)
  }
}

/** A time until something that happens every `meanMs` on average. */
export function waitOf(random: Random, meanMs: number): number {
  return Math.round(-meanMs * Math.log(1 - random()))
}
