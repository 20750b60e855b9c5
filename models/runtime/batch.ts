import type { Tensor } from '../onnx/session.ts'
import { HIDDEN, INPUT } from '../onnx/shard-graph.ts'
import { hasState } from '../recurrence.ts'
import { NoFreeSlotError, RuntimeInputError } from './errors.ts'
import { HeadBuffers } from './head-buffers.ts'
import { allocateHidden } from './hidden.ts'
import type { KvCache } from './kv-cache.ts'
import { type Lane, laneRun } from './lane-run.ts'
import { drawnRows, SAMPLED_ROWS, slotTokens } from './memory.ts'
import { mainTensor } from './processor.ts'
import type {
  BatchOptions,
  HiddenStates,
  OpenSlotOptions,
  RaggedOutput,
  RaggedStep,
  SampledToken,
  StepPart
} from './runtime.ts'
import type { SavedTokens } from './saved-tokens.ts'
import { checkOptions, Sequence } from './sequence.ts'
import type { ShardExecutor } from './shard-executor.ts'
import { type RunTensors, SlotTensors } from './slot-tensors.ts'
import { checkInput, checkMaxTokens, checkParts, tokensOf } from './step-checks.ts'
import { cutParts, type PlannedPart, planRuns } from './step-runs.ts'

/** More slots than this would not make a step's share of the weights any smaller. */
const MAX_SLOTS = 256

interface AllocatedBatch extends BatchOptions {
  /** Tokens from which on query heads may be computed as rows. @default where that is faster */
  groupsFrom?: number
}

/** A part of a step, where it is computed. */
interface PlacedPart extends PlannedPart {
  sequence: Sequence
  slot: number
  /** Its number among the step's parts, of which a run may compute a piece. */
  of: number
  /** Its first row in the step's input. */
  row: number
}

/** Parts that are in a run, the rows of the run in the order of the step's input. */
interface Run {
  parts: PlacedPart[]
  tensors: RunTensors
  /** Rows that the run has for each of the step's rows that it computes, in their order: those behind are nobody's. */
  rows: number[]
  /** Shape of the input, (batch, tokens). */
  dims: [batch: number, tokens: number]
}

/**
 * Sequences in the slots of one KV cache, in the worker. A step computes any number of tokens of any of them, in as few
 * runs as the shard's lanes allow, each of which reads the weights once. Single tokens of several sequences share a lane
 * that covers the slots from the first to the last of them; those in between compute a token that is not read, which they
 * put behind their last one. Where layers have a state, which such a token would change, each sequence has a lane.
 */
export class Batch {
  readonly #shard: ShardExecutor
  readonly #maxTokens: number
  readonly #cache: KvCache
  readonly #head: HeadBuffers | undefined
  readonly #slots: (Sequence | undefined)[]
  /** The tensors of a range of slots, by `start-end`. */
  readonly #tensors = new Map<string, SlotTensors>()

  readonly #groupsFrom: number | undefined

  private constructor(
    shard: ShardExecutor,
    { slots, maxTokens, groupsFrom }: AllocatedBatch,
    cache: KvCache
  ) {
    const { shape } = shard.manifest
    this.#shard = shard
    this.#maxTokens = maxTokens
    this.#cache = cache
    this.#groupsFrom = groupsFrom
    this.#head = shard.endsWithHead ? new HeadBuffers(shape.vocabSize, drawnRows(slots)) : undefined
    this.#slots = new Array(slots).fill(undefined)
  }

  /** @throws {ContextOverflowError} or {RuntimeInputError} for options that make no sense. */
  static async allocate(shard: ShardExecutor, options: AllocatedBatch): Promise<Batch> {
    const { slots, maxTokens } = options
    checkMaxTokens(shard.manifest.shape, maxTokens)
    if (!Number.isInteger(slots) || slots < 1 || slots > MAX_SLOTS) {
      throw new RuntimeInputError(`${slots} slots are not in 1..${MAX_SLOTS}`)
    }
    return new Batch(shard, options, await shard.allocate(slotTokens(maxTokens), slots, options.frameTokens))
  }

  /** What a slot's last sequence left of its first `saveTokens` tokens; undefined where that cannot be taken out. */
  async save({ slot, saveTokens }: OpenSlotOptions): Promise<SavedTokens | undefined> {
    if (slot === undefined || saveTokens === undefined) return undefined
    if (saveTokens > (this.#slots[slot]?.length ?? 0)) return undefined
    const part = await this.#cache.save(slot, saveTokens)
    return part && { tokens: saveTokens, parts: [part] }
  }

  /**
   * A new sequence in a slot that is free: the first one unless `slot` names it. It starts with the first `keepTokens`
   * tokens that the slot's last sequence left in the KV cache, that the sequence in `copyFrom` has there, or that were saved.
   */
  async open(asked: OpenSlotOptions): Promise<Sequence> {
    const { sampling, pooling, slot, keepTokens = 0, copyFrom, restore, exact = false, states } = asked
    const free = (sequence: Sequence | undefined) => sequence === undefined || sequence.closed
    const index = slot ?? this.#slots.findIndex(free)
    if (!Number.isInteger(index) || index >= this.#slots.length) {
      throw new RuntimeInputError(`slot ${index} is none of ${this.#slots.length}`)
    }
    if (index < 0) throw new NoFreeSlotError(`all ${this.#slots.length} slots are taken`)
    const last = this.#slots[index]
    if (!free(last)) throw new NoFreeSlotError(`slot ${index} is taken`)
    const kept = copyFrom === undefined ? last : this.#slots[copyFrom]
    const heldTokens = restore?.tokens ?? kept?.length ?? 0
    if (keepTokens > heldTokens) {
      const held = `${restore === undefined ? `slot ${copyFrom ?? index} holds` : 'what was saved has'} ${heldTokens} tokens`
      throw new RuntimeInputError(`${held}, not ${keepTokens}`)
    }
    if (copyFrom !== undefined && hasState(this.#shard.manifest.shape)) {
      throw new RuntimeInputError('a model with states of its own is not copied from slot to slot')
    }
    if (restore === undefined) this.#cache.check(copyFrom ?? index, keepTokens)
    const options = {
      maxTokens: this.#maxTokens,
      exact,
      states,
      ...(sampling === undefined ? {} : { sampling }),
      ...(pooling === undefined ? {} : { pooling })
    }
    checkOptions(this.#shard, options)
    const sequence = new Sequence(this.#shard, options, { cache: this.#cache, index, head: this.#head })
    if (restore !== undefined) await this.#cache.restore(index, restore.parts[0]!, keepTokens)
    else if (copyFrom !== undefined) await this.#cache.copy(copyFrom, index, keepTokens)
    await sequence.goOn(keepTokens)
    this.#slots[index] = sequence
    return sequence
  }

  /**
   * Any number of tokens of each sequence. Where it fails, every sequence ends at its part's position; so does one with
   * logits that are not finite.
   */
  async step(sequences: readonly Sequence[], { parts, input }: RaggedStep): Promise<RaggedOutput> {
    const { shape } = this.#shard.manifest
    checkInput(shape, this.#shard.range[0], input)
    const placed = this.#place(sequences, parts, tokensOf(input))
    // Only what attends needs lanes.
    const lanes = this.#cache.isEmpty ? Math.max(1, parts.length) : this.#shard.lanes
    const draws = this.#head?.capacity ?? Infinity
    const { mostTokens } = this.#shard
    const rounds = placed.some(({ tokens }) => tokens > mostTokens) ? cutParts(placed, mostTokens) : [placed]
    // A token for nobody is put where its slot's sequence ended before the step.
    const joins = this.#shard.joinsSlots && !this.#cache.hasStates && rounds.length === 1
    const runs = rounds.flatMap(round =>
      planRuns(round, { lanes, draws, joins }).map(({ lanes }) => lanes.map(lane => lane.map(i => round[i]!)))
    )
    // All of them can begin: a part that cannot has ended the step before another one's state was given up for it.
    for (const { sequence, position, tokens } of placed) await sequence.begin(position, tokens)
    const hidden = this.#head === undefined ? allocateHidden(tokensOf(input), shape.hiddenSize) : undefined
    const drawn: (SampledToken | undefined)[][] = parts.map(() => [])
    let computeMs = 0
    for (const laned of runs) {
      const run = laned.length === 1 ? this.#plainRun(laned[0]!) : this.#laneRun(laned)
      const began = performance.now()
      await this.#run(run, input, hidden)
      // What a later run selects is written over these.
      for (const [{ of }, tokens] of this.#draw(run)) drawn[of]!.push(...tokens)
      computeMs += performance.now() - began
    }
    placed.forEach(({ sequence, tokens }, i) => {
      // One that was closed meanwhile still had its slot: the others must not lose their step for it.
      if (!sequence.closed && drawn[i]!.every(token => token !== undefined)) sequence.append(tokens)
    })
    return hidden === undefined ? { kind: 'drawn', drawn, computeMs } : { kind: 'hidden', hidden, computeMs }
  }

  /** Fills the KV cache with such values, again and again: as if any tokens had been computed. */
  fill(values: Float32Array): Promise<void> {
    return this.#cache.fill(values)
  }

  /** Gives the KV cache back; none of its sequences may be used any more. */
  free(): void {
    this.#cache.free()
    this.#head?.free()
  }

  #place(sequences: readonly Sequence[], parts: readonly StepPart[], rows: number): PlacedPart[] {
    checkParts(parts, { sequences: sequences.length, rows, draws: this.#head?.capacity ?? Infinity })
    let row = 0
    const placed = parts.map((part, i): PlacedPart => {
      const sequence = sequences[i]!
      if (sequence.pools) throw new RuntimeInputError('a session that pools has steps of its own')
      if (sequence.joins)
        throw new RuntimeInputError('a session whose layers join states has steps of its own')
      sequence.checkRoom(Math.min(part.position, sequence.length), part.position, part.tokens)
      const at = row
      row += part.tokens
      const slot = this.#slots.indexOf(sequence)
      this.#cache.check(slot, part.position, part.tokens)
      return { ...part, sequence, exact: sequence.exact, slot, of: i, row: at }
    })
    if (new Set(placed.map(({ slot }) => slot)).size < placed.length)
      throw new RuntimeInputError('a session occurs twice in a step')
    return placed
  }

  /** Rows of one sequence, or one of each of several in neighbouring slots, as a graph without lanes has them. */
  #plainRun(parts: PlacedPart[]): Run {
    const [first] = parts
    if (parts.length === 1) {
      const { sequence, slot, position, tokens } = first!
      const rows = sequence.rowsOf(tokens)
      const slots = this.#tensorsOf(slot, slot + 1)
      slots.place([position], rows)
      return { parts, tensors: slots, rows: Array.from({ length: tokens }, (_, i) => i), dims: [1, rows] }
    }
    const { slots, start } = this.#placeRange(parts, parts)
    const rows = parts.map(({ slot }) => slot - start)
    return { parts, tensors: slots, rows, dims: [slots.batch, 1] }
  }

  #laneRun(lanes: PlacedPart[][]): Run {
    const parts = lanes.flat().sort((a, b) => a.row - b.row)
    const starts = new Map<PlacedPart, number>()
    const positions: number[] = []
    for (const part of parts) {
      starts.set(part, positions.length)
      for (let i = 0; i < part.tokens; i++) positions.push(part.position + i)
    }
    const tensors = laneRun(
      this.#shard,
      lanes.map(lane => this.#lane(lane, parts, starts)),
      positions
    )
    return { parts, tensors, rows: [...positions.keys()], dims: [1, positions.length] }
  }

  #lane(parts: PlacedPart[], ofRun: readonly PlacedPart[], starts: ReadonlyMap<PlacedPart, number>): Lane {
    if (parts.length > 1) {
      const { slots, start } = this.#placeRange(parts, ofRun)
      const rows = new Array<number>(slots.batch).fill(0)
      const results = parts.map(part => ({ row: part.slot - start, of: starts.get(part)! }))
      for (const { row, of } of results) rows[row] = of
      return { slots, rows, results }
    }
    const { sequence, slot, position, tokens } = parts[0]!
    const start = starts.get(parts[0]!)!
    const rows = Array.from({ length: tokens }, (_, i) => start + i)
    const results = rows.map((of, row) => ({ row, of }))
    if (sequence.rowsOf(tokens) > tokens) rows.push(start)
    const slots = this.#tensorsOf(slot, slot + 1)
    slots.place([position], rows.length)
    return { slots, rows, results }
  }

  /**
   * The slots from the first to the last of parts of one token, placed for a run. What is computed for nobody goes behind
   * what another lane of the run puts into the same slot.
   */
  #placeRange(
    parts: readonly PlacedPart[],
    ofRun: readonly PlacedPart[]
  ): { slots: SlotTensors; start: number } {
    const start = Math.min(...parts.map(({ slot }) => slot))
    const end = Math.max(...parts.map(({ slot }) => slot)) + 1
    const slots = this.#tensorsOf(start, end)
    const lengths = this.#slots.slice(start, end).map(sequence => sequence?.length ?? 0)
    for (const part of ofRun) {
      if (parts.includes(part) || part.slot < start || part.slot >= end) continue
      lengths[part.slot - start] = part.position + part.tokens
    }
    slots.place(lengths, 1)
    return { slots, start }
  }

  /** Computes a run; hidden states go to their places among the step's. */
  async #run(run: Run, input: RaggedStep['input'], hidden: HiddenStates | undefined): Promise<void> {
    const { parts, tensors, rows, dims } = run
    const { hiddenSize } = this.#shard.manifest.shape
    const count = dims[0] * dims[1]
    tensors.feeds[INPUT] = inputTensor(input, run, hiddenSize)
    if (hidden === undefined) {
      this.#head!.select(tensors, selected(run))
      await this.#shard.run(tensors.feeds, tensors.fetches)
      return
    }
    const whole = count === hidden.tokens && rows.length === count && rows.every((row, i) => row === i)
    const output = whole ? hidden.data : new Float32Array(count * hiddenSize)
    tensors.fetches[HIDDEN] = mainTensor(output, [...dims, hiddenSize])
    await this.#shard.run(tensors.feeds, tensors.fetches)
    if (whole) return
    inputRows(parts).forEach((to, i) => {
      const from = rows[i]! * hiddenSize
      hidden.data.set(output.subarray(from, from + hiddenSize), to * hiddenSize)
    })
  }

  #draw({ parts }: Run): Map<PlacedPart, (SampledToken | undefined)[]> {
    const drawn = new Map<PlacedPart, (SampledToken | undefined)[]>()
    const head = this.#head
    if (head === undefined) return drawn
    let index = 0
    for (const part of parts) {
      const { sequence, position, tokens, draws, mask } = part
      const first = position + tokens - draws
      const own = Array.from({ length: draws }, (_, i) =>
        // One mask says what may follow the last token.
        sequence.sample(head, index + i, first + i, i === draws - 1 ? mask : undefined)
      )
      index += draws
      drawn.set(part, own)
    }
    return drawn
  }

  #tensorsOf(start: number, end: number): SlotTensors {
    const key = `${start}-${end}`
    let tensors = this.#tensors.get(key)
    if (tensors === undefined) {
      tensors = new SlotTensors(this.#shard, this.#cache, [start, end], this.#groupsFrom)
      this.#tensors.set(key, tensors)
    }
    return tensors
  }
}

/** Rows of the step's input that a run computes, in its order. */
function inputRows(parts: readonly PlacedPart[]): number[] {
  return parts.flatMap(({ row, tokens }) => Array.from({ length: tokens }, (_, i) => row + i))
}

/** The run's rows of the step's input; a row for nobody has the first one's. */
function inputTensor(input: RaggedStep['input'], { parts, rows, dims }: Run, hiddenSize: number): Tensor {
  const count = dims[0] * dims[1]
  const taken = inputRows(parts)
  const sources = new Array<number>(count).fill(taken[0]!)
  rows.forEach((row, i) => {
    sources[row] = taken[i]!
  })
  const asItIs = count === tokensOf(input) && sources.every((from, i) => from === i)
  if (input instanceof Int32Array) {
    return mainTensor(asItIs ? input : Int32Array.from(sources, from => input[from]!), dims)
  }
  if (asItIs) return mainTensor(input.data, [...dims, hiddenSize])
  const data = new Float32Array(count * hiddenSize)
  sources.forEach((from, i) => {
    data.set(input.data.subarray(from * hiddenSize, (from + 1) * hiddenSize), i * hiddenSize)
  })
  return mainTensor(data, [...dims, hiddenSize])
}

/**
 * The run's rows that reach the head, in the order of its parts. A single one does so twice, unless the whole run is one
 * row: products of one row add in another order than products of more, so the last decoder layer has to see several rows
 * here as it does on a device that ends before the head; otherwise a cut would change bits.
 */
function selected({ parts, rows, dims }: Run): number[] {
  const chosen: number[] = []
  let end = 0
  for (const { tokens, draws } of parts) {
    end += tokens
    chosen.push(...rows.slice(end - draws, end))
  }
  const exact = parts.some(part => part.exact)
  const alone = chosen.length === 1 && (exact || dims[0] * dims[1] > 1)
  return alone ? new Array(SAMPLED_ROWS).fill(chosen[0]!) : chosen
}
