import { logger } from '../log.ts'
import { decodeByStep } from './decode.ts'
import { RuntimeInputError, SessionClosedError } from './errors.ts'
import type { RuntimeLink } from './link.ts'
import type { Opened } from './messages.ts'
import type {
  BatchOptions,
  DecodeInput,
  DecodeOutput,
  ForwardInput,
  ForwardOutput,
  HiddenStates,
  OpenSessionOptions,
  OpenSlotOptions,
  RaggedOutput,
  RaggedStep,
  Shard,
  ShardBatch,
  ShardSession,
  ShardSpec
} from './runtime.ts'
import type { SavedTokens } from './saved-tokens.ts'

const log = logger('edgeshard:runtime')

/** A shard that a worker holds. */
export class WorkerShard implements Shard {
  readonly manifest: ShardSpec['manifest']
  readonly range: ShardSpec['range']
  readonly #link: RuntimeLink
  readonly #id: number
  readonly #sessions = new Set<WorkerSession>()
  readonly #onReleased: () => Promise<void>
  readonly #ended = Promise.withResolvers<Error>()
  #released: Promise<void> | undefined

  /** @param onReleased what to do with the worker when it does not hold the shard any more. */
  constructor(
    link: RuntimeLink,
    id: number,
    { manifest, range }: Pick<ShardSpec, 'manifest' | 'range'>,
    onReleased: () => Promise<void>
  ) {
    this.#link = link
    this.#id = id
    this.manifest = manifest
    this.range = range
    this.#onReleased = onReleased
    if (link.ended !== undefined) this.#ended.resolve(link.ended)
    else link.watchers.add(this.#ended.resolve)
  }

  async open(options: OpenSessionOptions): Promise<ShardSession> {
    this.#checkHeld()
    const id = this.#link.nextId()
    const opened = await this.#link.call({ op: 'open', shard: this.#id, session: id, options })
    return new WorkerSession(this.#link, id, opened, this.#sessions)
  }

  async openBatch({ slots, maxTokens, frameTokens }: BatchOptions): Promise<ShardBatch> {
    this.#checkHeld()
    const id = this.#link.nextId()
    await this.#link.call({
      op: 'openBatch',
      shard: this.#id,
      batch: id,
      options: { slots, maxTokens, ...(frameTokens !== undefined && { frameTokens }) }
    })
    return new WorkerBatch(this.#link, id, this.#sessions)
  }

  get ended(): Promise<Error> {
    return this.#ended.promise
  }

  release(): Promise<void> {
    this.#released ??= this.#release()
    return this.#released
  }

  #checkHeld(): void {
    if (this.#released !== undefined) throw new RuntimeInputError('the shard was released')
  }

  async #release(): Promise<void> {
    // A worker that is used again is not to keep what it had.
    this.#link.watchers.delete(this.#ended.resolve)
    for (const session of this.#sessions) session.fail('its shard was released')
    await this.#link
      .call({ op: 'release', shard: this.#id })
      .catch(log.passOver('releasing a shard failed; a worker that has ended holds nothing'))
    await this.#onReleased()
  }
}

class WorkerBatch implements ShardBatch {
  readonly #link: RuntimeLink
  readonly #id: number
  readonly #ofShard: Set<WorkerSession>
  readonly #sessions = new Set<WorkerSession>()

  constructor(link: RuntimeLink, id: number, ofShard: Set<WorkerSession>) {
    this.#link = link
    this.#id = id
    this.#ofShard = ofShard
  }

  async open(options: OpenSlotOptions = {}): Promise<ShardSession> {
    const id = this.#link.nextId()
    for (const session of this.#sessions) if (session.closed !== undefined) this.#sessions.delete(session)
    const opened = await this.#link.call({ op: 'openSlot', batch: this.#id, session: id, options })
    const session = new WorkerSession(this.#link, id, opened, this.#ofShard)
    this.#sessions.add(session)
    return session
  }

  decode(sessions: readonly ShardSession[], step: DecodeInput): Promise<DecodeOutput> {
    return decodeByStep(this, sessions, step)
  }

  step(sessions: readonly ShardSession[], step: RaggedStep): Promise<RaggedOutput> {
    const ids: number[] = []
    for (const session of sessions) {
      if (!(session instanceof WorkerSession) || !this.#sessions.has(session)) {
        return Promise.reject(new RuntimeInputError('a session is of another batch'))
      }
      if (session.closed !== undefined) return Promise.reject(session.closed)
      ids.push(session.id)
    }
    return this.#link.call({ op: 'step', batch: this.#id, sessions: ids, step })
  }

  async close(): Promise<void> {
    for (const session of this.#sessions) session.fail('its batch was closed')
    this.#sessions.clear()
    await this.#link
      .call({ op: 'closeBatch', batch: this.#id })
      .catch(log.passOver('closing a batch failed; a worker that has ended holds none'))
  }
}

class WorkerSession implements ShardSession {
  readonly id: number
  readonly exact: boolean
  readonly saved: SavedTokens | undefined
  closed: SessionClosedError | undefined
  readonly #link: RuntimeLink
  readonly #outputs: HiddenStates[]
  /** The sessions of the shard, of which this is one until it ends. */
  readonly #siblings: Set<WorkerSession>
  readonly #rejects = new Set<(error: Error) => void>()

  constructor(
    link: RuntimeLink,
    id: number,
    { outputs, exact, saved }: Opened,
    siblings: Set<WorkerSession>
  ) {
    this.id = id
    this.#link = link
    this.#outputs = outputs
    this.exact = exact
    this.saved = saved
    this.#siblings = siblings
    siblings.add(this)
  }

  async forward(step: ForwardInput): Promise<ForwardOutput> {
    const output = await this.#untilClosed(this.#link.call({ op: 'forward', session: this.id, step }))
    if (output.kind !== 'hidden') return output
    const { hidden, computeMs } = output
    return { kind: 'hidden', computeMs, hidden: typeof hidden === 'number' ? this.#outputs[hidden]! : hidden }
  }

  async trim(length: number): Promise<void> {
    await this.#untilClosed(this.#link.call({ op: 'trim', session: this.id, length }))
  }

  async close(): Promise<void> {
    if (this.closed !== undefined) return
    this.fail('it was closed')
    await this.#link
      .call({ op: 'close', session: this.id })
      .catch(log.passOver('closing a session failed; a worker that has ended holds none'))
  }

  /** Rejects what is pending and everything that is asked from now on. */
  fail(reason: string): void {
    this.closed ??= new SessionClosedError(`the session is over: ${reason}`)
    for (const reject of this.#rejects) reject(this.closed)
    this.#rejects.clear()
    this.#siblings.delete(this)
  }

  async #untilClosed<T>(answer: Promise<T>): Promise<T> {
    if (this.closed !== undefined) {
      // Whatever it is: the session was over before.
      answer.catch(() => undefined)
      throw this.closed
    }
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    this.#rejects.add(reject)
    answer.then(resolve, reject)
    return promise.finally(() => this.#rejects.delete(reject))
  }
}
