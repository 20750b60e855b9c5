import type { PlannedStage, Predicted, RecoveryTimes } from '../api.ts'
import type { AnswerFigures, MeshEvent } from '../mesh-events.ts'

/** An answer that is being made. */
export interface LiveAnswer {
  answer: number
  stages: readonly PlannedStage[]
  predicted: Predicted
}

/** How far a device is with an answer's model. */
export interface Load {
  answer: number
  phase: 'plan' | 'weights' | 'load'
  peer: string
  done: number
  total: number
  /** When it was heard of first, by the page's clock, and how far it was. */
  sinceMs: number
  doneBefore: number
}

/** A stage that was lost under an answer. */
export interface Loss {
  answer: number
  peerId: string
  reason: string
  sinceMs: number
  /** The stages that compute now, once there is a plan again. */
  stages?: readonly PlannedStage[]
  /** What it took, once the next token is there. */
  spent?: RecoveryTimes
  /** It ended without that. */
  outcome?: string
}

export interface EndedAnswer {
  answer: number
  outcome: string
  tokens: number
  result?: AnswerFigures
}

/** What this node's answers do and did, the newest last. */
export interface Activity {
  live: readonly LiveAnswer[]
  loads: readonly Load[]
  losses: readonly Loss[]
  ended: readonly EndedAnswer[]
}

export const NOTHING: Activity = { live: [], loads: [], losses: [], ended: [] }

const MAX_ENDED = 60
const MAX_LOSSES = 4

/** Whether it is known what a loss came to. */
export function isOver({ spent, outcome }: Loss): boolean {
  return spent !== undefined || outcome !== undefined
}

/** Whether no answer of the node loads or computes: what it holds on to is not there for another plan. */
export function isAtRest({ live, loads }: Activity): boolean {
  return live.length === 0 && loads.length === 0
}

/** The activity after an event; the same object where the event says nothing of it. */
export function afterActivity(activity: Activity, event: MeshEvent, nowMs: number): Activity {
  switch (event.type) {
    case 'mesh':
      // The node has started anew, or so much time has passed that the answers are over. What became of a loss is told until it is seen.
      return { ...NOTHING, losses: activity.losses.filter(isOver), ended: activity.ended }
    case 'load':
      return 'fetches' in event.data ? activity : withLoad(activity, event.data, nowMs)
    case 'step':
      return withoutLoads(activity, event.data.answer)
    case 'recovery':
      return withRecovery(activity, event.data, nowMs)
    case 'answer':
      return 'outcome' in event.data ? withEnd(activity, event.data) : withPlan(activity, event.data)
    default:
      return activity
  }
}

function withLoad(activity: Activity, far: Omit<Load, 'sinceMs' | 'doneBefore'>, nowMs: number): Activity {
  const isIt = (load: Load) =>
    load.answer === far.answer && load.peer === far.peer && load.phase === far.phase
  const before = activity.loads.find(isIt)
  const { sinceMs, doneBefore } = before ?? { sinceMs: nowMs, doneBefore: far.done }
  const load = { ...far, sinceMs, doneBefore }
  return {
    ...activity,
    loads: before ? activity.loads.map(old => (isIt(old) ? load : old)) : [...activity.loads, load]
  }
}

function withoutLoads(activity: Activity, answer: number): Activity {
  const loads = activity.loads.filter(load => load.answer !== answer)
  return loads.length === activity.loads.length ? activity : { ...activity, loads }
}

function withRecovery(
  activity: Activity,
  data: Extract<MeshEvent, { type: 'recovery' }>['data'],
  nowMs: number
): Activity {
  const { answer, peerId } = data
  if ('reason' in data) {
    const loss = { answer, peerId, reason: data.reason, sinceMs: nowMs }
    return { ...activity, losses: [...activity.losses, loss].slice(-MAX_LOSSES) }
  }
  const isIt = (loss: Loss) => loss.answer === answer && loss.peerId === peerId && loss.spent === undefined
  return {
    ...activity,
    losses: activity.losses.map(loss => (isIt(loss) ? { ...loss, spent: data.spent } : loss))
  }
}

function withPlan(activity: Activity, live: LiveAnswer): Activity {
  return {
    ...activity,
    live: [...activity.live.filter(({ answer }) => answer !== live.answer), live],
    losses: activity.losses.map(loss =>
      loss.answer === live.answer && loss.spent === undefined ? { ...loss, stages: live.stages } : loss
    )
  }
}

function withEnd(activity: Activity, ended: EndedAnswer): Activity {
  return {
    live: activity.live.filter(({ answer }) => answer !== ended.answer),
    loads: activity.loads.filter(({ answer }) => answer !== ended.answer),
    losses: activity.losses.map(loss =>
      loss.answer === ended.answer && loss.spent === undefined ? { ...loss, outcome: ended.outcome } : loss
    ),
    ended: [...activity.ended, ended].slice(-MAX_ENDED)
  }
}
