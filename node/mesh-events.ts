import type {
  DeploymentState,
  FetchState,
  GenerateResult,
  LinkState,
  MeshState,
  PlannedStage,
  Predicted,
  RecoveryTimes
} from './api.ts'

/** What `/api/events` sends: the whole mesh first, then what changes. `answer` counts the answers of this node as a source. */
export type MeshEvent =
  | { type: 'mesh'; data: MeshState }
  | { type: 'peer'; data: PeerChange }
  | { type: 'link'; data: LinkChange }
  | { type: 'plan'; data: { deployments: DeploymentState[] } }
  | { type: 'load'; data: LoadChange }
  | { type: 'step'; data: StepSample }
  | { type: 'recovery'; data: RecoveryChange }
  | { type: 'answer'; data: AnswerChange }
  | { type: 'rest'; data: Partial<RestOfMesh> }

/** Names of the events that this version knows. */
export const KNOWN_EVENTS: ReadonlySet<string> = new Set<MeshEvent['type']>([
  'mesh',
  'peer',
  'link',
  'plan',
  'load',
  'step',
  'recovery',
  'answer',
  'rest'
])

/** This node's own record, a peer's, or the id of a peer that is listed no more. */
export type PeerChange = { self: MeshState['self'] } | { peer: PeerEntry } | { gone: string }

export type PeerEntry = MeshState['peers'][number]

/** One direction of a link, measured anew or known no more. */
export type LinkChange = { link: LinkState } | { gone: Pick<LinkState, 'from' | 'to'> }

/** Weights on their way to this node, or how far a device is with an answer's model: bytes for `weights`, else parts. */
export type LoadChange =
  | { fetches: FetchState[] }
  | { answer: number; phase: 'plan' | 'weights' | 'load'; peer: string; done: number; total: number }

/** Tokens of an answer so far; at most 10 of these a second for all answers together. */
export interface StepSample {
  answer: number
  tokens: number
}

/** A stage is lost, or made good. */
export type RecoveryChange =
  | { answer: number; peerId: string; reason: string }
  | { answer: number; peerId: string; spent: RecoveryTimes }

/** An answer has a plan, or is over: `outcome` is its finish reason, `cancelled` or an error's code. No text is in it. */
export type AnswerChange =
  | { answer: number; stages: PlannedStage[]; predicted: Predicted }
  | { answer: number; outcome: string; tokens: number; result?: AnswerFigures }

export type AnswerFigures = Pick<
  GenerateResult,
  'ttftMs' | 'tpotMs' | 'plan' | 'predicted' | 'measured' | 'recoveries' | 'stretches' | 'guesses'
>

/** The parts of MeshState that no other event has; those that are there replace the mesh's. */
export type RestOfMesh = Pick<
  MeshState,
  'unreached' | 'copies' | 'leases' | 'sessions' | 'droppedFrames' | 'prefixCache'
>

/**
 * The mesh after an event; the same object where the event says nothing of it. Before the first `mesh` there is none.
 */
export function afterEvent(mesh: MeshState | undefined, event: MeshEvent): MeshState | undefined {
  if (event.type === 'mesh') return event.data
  if (mesh === undefined) return undefined
  switch (event.type) {
    case 'peer':
      return withPeer(mesh, event.data)
    case 'link':
      return { ...mesh, links: withLink(mesh.links, event.data) }
    case 'plan':
      return { ...mesh, deployments: event.data.deployments }
    case 'load':
      return 'fetches' in event.data ? { ...mesh, fetches: event.data.fetches } : mesh
    case 'rest':
      return { ...mesh, ...event.data }
    default:
      return mesh
  }
}

function withPeer(mesh: MeshState, change: PeerChange): MeshState {
  if ('self' in change) return { ...mesh, self: change.self }
  if ('gone' in change) return { ...mesh, peers: mesh.peers.filter(({ peerId }) => peerId !== change.gone) }
  return { ...mesh, peers: replaced(mesh.peers, change.peer, ({ peerId }) => peerId === change.peer.peerId) }
}

function withLink(links: readonly LinkState[], change: LinkChange): LinkState[] {
  const { from, to } = 'gone' in change ? change.gone : change.link
  const isIt = (link: LinkState) => link.from === from && link.to === to
  return 'gone' in change ? links.filter(link => !isIt(link)) : replaced(links, change.link, isIt)
}

/** The list with `entry` where `isIt` says, or at its end. */
function replaced<T>(list: readonly T[], entry: T, isIt: (entry: T) => boolean): T[] {
  return list.some(isIt) ? list.map(old => (isIt(old) ? entry : old)) : [...list, entry]
}
