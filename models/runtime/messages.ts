import type { ByTimedKind } from '../blocks.ts'
import type { LayerRange } from '../layers.ts'
import type { ModelShape } from '../manifest.ts'
import type { Threading } from '../onnx/session.ts'
import type { PlainError } from './errors.ts'
import type { ProfileSpec } from './layer-probe.ts'
import type {
  BatchOptions,
  DetailedTimes,
  ForwardInput,
  HiddenStates,
  LayerTimes,
  OpenSessionOptions,
  OpenSlotOptions,
  RaggedOutput,
  RaggedStep,
  ShardSpec
} from './runtime.ts'
import type { SavedTokens } from './saved-tokens.ts'
import type { StepOutput } from './sequence.ts'

/**
 * What the runtime's two threads say to each other. Shards and sessions are numbered by the side that asks. `unwanted`
 * holds a 1 from when nobody waits for the times any more: a thread that measures reads no messages.
 */
export type Call =
  | { op: 'load'; shard: number; spec: ShardSpec }
  | { op: 'open'; shard: number; session: number; options: OpenSessionOptions }
  | { op: 'forward'; session: number; step: ForwardInput }
  | { op: 'trim'; session: number; length: number }
  | { op: 'close'; session: number }
  | { op: 'openBatch'; shard: number; batch: number; options: BatchOptions }
  | { op: 'openSlot'; batch: number; session: number; options: OpenSlotOptions }
  | { op: 'step'; batch: number; sessions: number[]; step: RaggedStep }
  | { op: 'closeBatch'; batch: number }
  | { op: 'release'; shard: number }
  | { op: 'profile'; spec: ProfileSpec; unwanted: Int32Array<SharedArrayBuffer> }
  | { op: 'profileInDetail'; spec: ProfileSpec; unwanted: Int32Array<SharedArrayBuffer> }
  | { op: 'allocatable'; most: number }
  | { op: 'checkContexts'; shape: ModelShape; range: LayerRange }
  | { op: 'stop' }

/** A session that is open. */
export interface Opened {
  /** Where its decode steps leave hidden states, in turn. */
  outputs: HiddenStates[]
  /** Whether it is computed to the bit. */
  exact: boolean
  /** What was to be saved of its slot. */
  saved?: SavedTokens
}

/** What each call is answered with. */
export interface Answers {
  load: undefined
  open: Opened
  forward: StepOutput
  trim: undefined
  close: undefined
  openBatch: undefined
  openSlot: Opened
  step: RaggedOutput
  closeBatch: undefined
  release: undefined
  profile: ByTimedKind<LayerTimes>
  profileInDetail: ByTimedKind<DetailedTimes>
  /** Bytes. */
  allocatable: number
  checkContexts: undefined
  stop: undefined
}

export type Request = Call & { id: number }

export type Reply =
  | { id: number; ok: true; value: Answers[keyof Answers] }
  | { id: number; ok: false; error: PlainError }

/** What a process says first: whether it can compute. */
export type Started = { started: true } | { started: false; error: PlainError }

/** What a process says in between, so that one that works for long is not taken for one that hangs. */
export interface Alive {
  alive: true
}

/** What the worker is started with. */
export type WorkerSetup = Threading
