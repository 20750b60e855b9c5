import type { Answers, Call } from './messages.ts'

/** Calls to a worker of the runtime, a thread or a process, and their answers. */
export interface RuntimeLink {
  /** Resolves when it can be asked. */
  readonly online: Promise<void>
  /** Why nothing that it held is left, once that is so. */
  readonly ended: Error | undefined
  /** Callbacks for when it has ended. */
  readonly watchers: Set<(ended: Error) => void>
  call<C extends Call>(call: C): Promise<Answers[C['op']]>
  /** For shards, sessions and batches, which the side that asks numbers. */
  nextId(): number
  stop(): Promise<void>
}
