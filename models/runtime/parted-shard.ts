import { logger } from '../log.ts'
import { decodeByStep } from './decode.ts'
import { RuntimeInputError, SessionClosedError } from './errors.ts'
import { allocateHidden } from './hidden.ts'
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
  ShardSpec,
  StepPart
} from './runtime.ts'
import type { SavedTokens } from './saved-tokens.ts'

const log = logger('edgeshard:runtime')

/**
 * Shards of neighbouring ranges as one: each has a thread of its own, so that they are loaded side by side, and a step
 * goes through one after the other. A cut changes no bit of what is computed.
 */
export class PartedShard implements Shard {
  readonly manifest: ShardSpec['manifest']
  readonly range: ShardSpec['range']
  readonly #parts: readonly Shard[]

  /** @param parts in the order of their layers; at least one. */
  constructor(parts: readonly Shard[]) {
    this.#parts = parts
    this.manifest = parts[0]!.manifest
    this.range = [parts[0]!.range[0], parts.at(-1)!.range[1]]
  }

  /** One part is as much as all: what is left computes nothing. */
  get ended(): Promise<Error> {
    return Promise.race(this.#parts.map(part => part.ended))
  }

  async open(options: OpenSessionOptions): Promise<ShardSession> {
    return new PartedSession(
      await openAll(
        this.#parts,
        part => part.open(options),
        session => session.close()
      )
    )
  }

  async openBatch(options: BatchOptions): Promise<ShardBatch> {
    return new PartedBatch(
      await openAll(
        this.#parts,
        part => part.openBatch(options),
        batch => batch.close()
      )
    )
  }

  async release(): Promise<void> {
    await Promise.all(this.#parts.map(part => part.release()))
  }
}

class PartedSession implements ShardSession {
  readonly parts: readonly ShardSession[]
  closed = false

  constructor(parts: readonly ShardSession[]) {
    this.parts = parts
  }

  get exact(): boolean {
    return this.parts.every(({ exact }) => exact)
  }

  /** What every part has saved, or nothing. */
  get saved(): SavedTokens | undefined {
    const saved = this.parts.map(part => part.saved)
    const [first] = saved
    if (first === undefined || saved.includes(undefined)) return undefined
    return { tokens: first.tokens, parts: saved.flatMap(part => part!.parts) }
  }

  async forward(step: ForwardInput): Promise<ForwardOutput> {
    let input = step.input
    let computeMs = 0
    for (const [at, part] of this.parts.entries()) {
      try {
        const output = await part.forward({ ...step, input })
        computeMs += output.computeMs
        if (at === this.parts.length - 1) return { ...output, computeMs }
        input = hiddenOf(output)
      } catch (error) {
        await takeBack(this.parts.slice(0, at), step.position)
        throw error
      }
    }
    throw new RuntimeInputError('a shard has no part')
  }

  async trim(length: number): Promise<void> {
    await Promise.all(this.parts.map(part => part.trim(length)))
  }

  async close(): Promise<void> {
    this.closed = true
    await Promise.all(this.parts.map(part => part.close()))
  }
}

class PartedBatch implements ShardBatch {
  readonly #parts: readonly ShardBatch[]
  readonly #sessions = new WeakSet<PartedSession>()

  constructor(parts: readonly ShardBatch[]) {
    this.#parts = parts
  }

  async open(options: OpenSlotOptions = {}): Promise<ShardSession> {
    // Slots are taken and given back together, so the first free one is the same everywhere.
    const { restore } = options
    const parts = await openAll(
      this.#parts,
      (part, at) =>
        part.open(
          restore === undefined
            ? options
            : { ...options, restore: { ...restore, parts: [restore.parts[at]!] } }
        ),
      session => session.close()
    )
    const session = new PartedSession(parts)
    this.#sessions.add(session)
    return session
  }

  decode(sessions: readonly ShardSession[], step: DecodeInput): Promise<DecodeOutput> {
    return decodeByStep(this, sessions, step)
  }

  async step(sessions: readonly ShardSession[], step: RaggedStep): Promise<RaggedOutput> {
    const own = sessions.filter(session => session instanceof PartedSession && this.#sessions.has(session))
    if (own.length < sessions.length) throw new RuntimeInputError('a session is of another batch')
    const parted = own as PartedSession[]
    const takeBackPart = (at: number, i: number) =>
      takeBack(parted[i]!.parts.slice(0, at), step.parts[i]!.position)
    const rows = rowsOfParts(step.parts)
    /** The step's parts that are computed still. */
    let open = parted.map((_, i) => i)
    let { input } = step
    let computeMs = 0
    for (const [at, batch] of this.#parts.entries()) {
      try {
        // One that was closed meanwhile is left behind: the others must not lose their step for it.
        const left = at === 0 ? open : open.filter(i => !parted[i]!.closed)
        if (left.length === 0) throw new SessionClosedError('every session of the step was closed meanwhile')
        if (left.length < open.length) {
          const all = open.flatMap(i => rows[i]!)
          input = rowsOf(
            input,
            left.flatMap(i => rows[i]!.map(row => all.indexOf(row)))
          )
        }
        open = left
        const output = await batch.step(
          open.map(i => parted[i]!.parts[at]!),
          { parts: open.map(i => step.parts[i]!), input }
        )
        computeMs += output.computeMs
        if (output.kind === 'hidden' && at < this.#parts.length - 1) {
          input = output.hidden
          continue
        }
        const whole = spread(output, open, rows)
        if (whole.kind === 'drawn') {
          // A session without a token is left as it was, in every part.
          const failed = open.filter(i => whole.drawn[i]!.includes(undefined))
          await Promise.all(failed.map(i => takeBackPart(at, i)))
        }
        return { ...whole, computeMs }
      } catch (error) {
        await Promise.all(open.map(i => takeBackPart(at, i)))
        throw error
      }
    }
    throw new RuntimeInputError('a shard has no part')
  }

  async close(): Promise<void> {
    await Promise.all(this.#parts.map(part => part.close()))
  }
}

function hiddenOf(output: ForwardOutput) {
  if (output.kind === 'hidden') return output.hidden
  throw new RuntimeInputError('only the last part of a shard may hold the head')
}

/** Some rows of hidden states, in that order. */
function rowsOf(input: DecodeInput['input'], rows: readonly number[]): HiddenStates {
  if (input instanceof Int32Array) throw new RuntimeInputError('only the first part of a shard takes tokens')
  const width = input.data.length / input.tokens
  const some = allocateHidden(rows.length, width)
  rows.forEach((row, i) => {
    some.data.set(input.data.subarray(row * width, (row + 1) * width), i * width)
  })
  return some
}

/** The step's rows of each part. */
function rowsOfParts(parts: readonly StepPart[]): number[][] {
  let end = 0
  return parts.map(({ tokens }) => {
    const start = end
    end += tokens
    return Array.from({ length: tokens }, (_, i) => start + i)
  })
}

/** What a step found for some of its parts; the others have drawn nothing that is a number, or zeros. */
function spread(output: RaggedOutput, open: readonly number[], rows: readonly number[][]): RaggedOutput {
  if (open.length === rows.length) return output
  if (output.kind === 'drawn') {
    const drawn = rows.map((_, i) => (open.includes(i) ? output.drawn[open.indexOf(i)]! : [undefined]))
    return { ...output, drawn }
  }
  const { data, tokens } = output.hidden
  const width = data.length / tokens
  const hidden = allocateHidden(rows.flat().length, width)
  open
    .flatMap(i => rows[i]!)
    .forEach((row, i) => {
      hidden.data.set(data.subarray(i * width, (i + 1) * width), row * width)
    })
  return { ...output, hidden }
}

/** Forgets a step that a later part has failed. */
async function takeBack(parts: readonly ShardSession[], position: number): Promise<void> {
  await Promise.all(
    parts.map(part =>
      part.trim(position).catch(log.passOver('a session that is over needs no step taken back'))
    )
  )
}

/** One of each part, or the first error, with what was opened closed again. */
async function openAll<Part, T>(
  parts: readonly Part[],
  open: (part: Part, at: number) => Promise<T>,
  close: (one: T) => Promise<void>
): Promise<T[]> {
  const opened = await Promise.allSettled(parts.map((part, at) => open(part, at)))
  const failed = opened.find(result => result.status === 'rejected')
  const done = opened.flatMap(result => (result.status === 'fulfilled' ? [result.value] : []))
  if (failed === undefined) return done
  await Promise.all(done.map(close))
  throw failed.reason
}
