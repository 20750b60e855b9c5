import { allocatableBytes } from './allocatable.ts'
import { Batch } from './batch.ts'
import { RuntimeInputError, SessionClosedError, toPlain } from './errors.ts'
import { checkLongContexts } from './long-contexts.ts'
import type { Answers, Call, Reply, Request } from './messages.ts'
import type { Processor } from './processor.ts'
import { profileInDetail, profileLayers } from './profile.ts'
import type { HiddenStates } from './runtime.ts'
import { Sequence } from './sequence.ts'
import { ShardExecutor } from './shard-executor.ts'

/**
 * What a worker of the runtime does, whether it is a thread or a process: answers calls one at a time, in the order in
 * which they came, for ONNX Runtime holds the thread during a run. Only closing takes effect at once: steps of a closed
 * session that still wait are not computed.
 */
export class Calls {
  readonly #processor: Processor
  readonly #say: (reply: Reply, request: Request) => void
  readonly #shards = new Map<number, ShardExecutor>()
  readonly #sessions = new Map<number, { shard: number; batch: number | undefined; sequence: Sequence }>()
  readonly #batches = new Map<number, { shard: number; batch: Batch }>()
  #previous: Promise<void> = Promise.resolve()

  /** @param say gives an answer to who asked; called before the next one is begun */
  constructor(processor: Processor, say: (reply: Reply, request: Request) => void) {
    this.#processor = processor
    this.#say = say
  }

  take(request: Request): void {
    for (const [id, { shard, batch, sequence }] of this.#sessions) {
      const closes =
        (request.op === 'close' && request.session === id) ||
        (request.op === 'closeBatch' && request.batch === batch) ||
        (request.op === 'release' && request.shard === shard)
      if (closes) sequence.closed = true
    }
    this.#previous = this.#previous.then(async () => this.#say(await this.#answer(request), request))
  }

  /** Where a session's decode steps leave hidden states, by the number that their answers have. */
  decodeOutput(session: number, turn: number): HiddenStates {
    return this.#sequenceOf(session).decodeOutputs[turn]!
  }

  async #answer(request: Request): Promise<Reply> {
    try {
      return { id: request.id, ok: true, value: await this.#execute(request) }
    } catch (error) {
      return { id: request.id, ok: false, error: toPlain(error) }
    }
  }

  async #execute(call: Call): Promise<Answers[keyof Answers]> {
    switch (call.op) {
      case 'load':
        this.#shards.set(call.shard, await ShardExecutor.load(call.spec, this.#processor))
        return
      case 'open': {
        const shard = this.#shards.get(call.shard)
        if (shard === undefined) throw new RuntimeInputError('the shard was released')
        const exact = await this.#isExact(shard, call.options)
        const sequence = await Sequence.open(shard, call.options)
        this.#sessions.set(call.session, { shard: call.shard, batch: undefined, sequence })
        return { outputs: sequence.decodeOutputs, exact }
      }
      case 'openBatch': {
        const shard = this.#shards.get(call.shard)
        if (shard === undefined) throw new RuntimeInputError('the shard was released')
        this.#batches.set(call.batch, { shard: call.shard, batch: await Batch.allocate(shard, call.options) })
        return
      }
      case 'openSlot': {
        const { shard, batch } = this.#batchOf(call.batch)
        const exact = await this.#isExact(this.#shards.get(shard)!, call.options)
        // In one call: what is opened after this must find the slot as it was when it was asked for.
        const saved = await batch.save(call.options)
        const sequence = await batch.open(call.options)
        this.#sessions.set(call.session, { shard, batch: call.batch, sequence })
        return { outputs: sequence.decodeOutputs, exact, ...(saved && { saved }) }
      }
      case 'step':
        return await this.#batchOf(call.batch).batch.step(
          call.sessions.map(id => this.#sequenceOf(id)),
          call.step
        )
      case 'closeBatch':
        for (const [id, { batch }] of this.#sessions) if (batch === call.batch) this.#sessions.delete(id)
        this.#batches.get(call.batch)?.batch.free()
        this.#batches.delete(call.batch)
        return
      case 'forward':
        return await this.#sequenceOf(call.session).forward(call.step)
      case 'trim':
        await this.#sequenceOf(call.session).trim(call.length)
        return
      case 'close':
        this.#sessions.get(call.session)?.sequence.free()
        this.#sessions.delete(call.session)
        return
      case 'release':
        await this.#release(call.shard)
        return
      case 'profile':
        return await profileLayers(call.spec, this.#processor, call.unwanted)
      case 'profileInDetail':
        return await profileInDetail(call.spec, this.#processor, call.unwanted)
      case 'allocatable':
        return await allocatableBytes(this.#processor, call.most)
      case 'checkContexts':
        await checkLongContexts(call.shape, call.range, this.#processor)
        return
      case 'stop':
        for (const shard of this.#shards.keys()) await this.#release(shard)
        return
    }
  }

  /** Tried before anything is opened: a check that fails leaves no session behind. */
  async #isExact(shard: ShardExecutor, { exact = false }: { exact?: boolean }): Promise<boolean> {
    return exact && (await shard.keepsBits())
  }

  async #release(id: number): Promise<void> {
    for (const [session, { shard, sequence }] of this.#sessions) {
      if (shard !== id) continue
      sequence.free()
      this.#sessions.delete(session)
    }
    for (const [key, { shard, batch }] of this.#batches) {
      if (shard !== id) continue
      batch.free()
      this.#batches.delete(key)
    }
    const executor = this.#shards.get(id)
    this.#shards.delete(id)
    await executor?.release()
  }

  #sequenceOf(session: number): Sequence {
    const found = this.#sessions.get(session)
    if (found === undefined) throw new SessionClosedError('the session is closed')
    return found.sequence
  }

  #batchOf(batch: number): { shard: number; batch: Batch } {
    const found = this.#batches.get(batch)
    if (found === undefined) throw new SessionClosedError('the batch is closed')
    return found
  }
}
