import type { LayerRange } from '../../../models/layers.ts'
import type { Manifest } from '../../../models/manifest.ts'
import { allocateHidden } from '../../../models/runtime/hidden.ts'
import { leaseBytes } from '../../../models/runtime/memory.ts'
import type { HiddenStates, SampledToken, ShardSession } from '../../../models/runtime/runtime.ts'
import type { Sampling } from '../../../models/runtime/sampler.ts'
import type { StageRoom } from '../../stage/room.ts'
import { type PrefillStep, prefillSteps } from '../pipeline/prefill-steps.ts'
import { samplingFrom } from '../pipeline/reply-so-far.ts'

/** The beginning of an answer, as it was drawn. */
export interface DrawnTokens {
  modelId: string
  manifest: Manifest
  prompt: readonly number[]
  tokens: readonly number[]
  sampling: Sampling
}

/** The device has something better to do, or too little memory that nobody wants. */
export class BusyHereError extends Error {
  override readonly name = 'BusyHereError'
  readonly code = 'busy'
}

/** One layer range, loaded for a replay, with a KV cache of one slot. */
interface LoadedRange {
  session: ShardSession
  /** @throws {BusyHereError} when the memory is wanted */
  check(): void
}

/** How the tokens before go in: as they did for the answer, or in groups, of which products are rounded otherwise. */
export type Feeding = 'as-drawn' | 'grouped'

/**
 * Draws tokens of an answer again, on this device alone: the tokens before each are those of the answer. The model goes through memory one layer range after the other, as many layers at once as nobody has
 * leased memory for, so it need not fit. Stops at the next step when it is to give way, and gives its memory to whoever
 * asks for it.
 *
 * @param from index in `tokens` of the first one that is drawn again; all behind it are, too
 * @param givesWay asked before each step: true where what runs here comes first. @default any open session does
 * @returns what the model draws in their place
 * @throws {BusyHereError}
 */
export async function drawAgain(
  room: StageRoom,
  source: string,
  { modelId, manifest, prompt, tokens, sampling }: DrawnTokens,
  {
    from,
    feeding = 'as-drawn',
    givesWay = () => room.sessions.open > 0,
    signal
  }: { from: number; feeding?: Feeding; givesWay?: () => boolean; signal: AbortSignal }
): Promise<SampledToken[]> {
  const maxTokens = prompt.length + tokens.length
  const { hiddenSize } = manifest.shape
  const drawn: SampledToken[] = []
  /** (tokens, hidden) of all tokens behind the last range. */
  let hidden: HiddenStates | undefined
  for (let start = 0; start < manifest.layers.length; ) {
    const range = largestRange(manifest, start, maxTokens, room.leases.unheldBytes)
    const isLast = range[1] === manifest.layers.length
    const next = isLast ? undefined : allocateHidden(maxTokens - 1, hiddenSize)
    const inputs = hidden
    const steps = stepsOf({ prompt, tokens }, { from, feeding, isLast })
    const told = samplingFrom(sampling, { prompt, known: tokens, drawnFrom: from })
    const needs = { room, source, modelId, manifest, range, maxTokens, sampling: told }
    await withRange(needs, signal, async loaded => {
      for (const step of steps) {
        loaded.check()
        if (givesWay()) throw new BusyHereError('an answer runs here')
        await loaded.session.trim(step.position)
        const last = step.position + step.tokens.length
        const sample = isLast && last - prompt.length >= from
        const input = inputs === undefined ? Int32Array.from(step.tokens) : rowsOf(inputs, step, hiddenSize)
        const output = await loaded.session.forward({ position: step.position, input, sample })
        if (output.kind === 'token') drawn.push(output.token)
        if (output.kind !== 'hidden') continue
        // Of a single token the memory is the session's own.
        const values = output.hidden.data.subarray(0, step.tokens.length * hiddenSize)
        next?.data.set(values, step.position * hiddenSize)
      }
    })
    hidden = next
    start = range[1]
  }
  return drawn
}

/** The steps through a range; in groups the last one draws each token at the end of two rows. */
function stepsOf(
  { prompt, tokens }: Pick<DrawnTokens, 'prompt' | 'tokens'>,
  { from, feeding, isLast }: { from: number; feeding: Feeding; isLast: boolean }
): PrefillStep[] {
  const known = tokens.slice(0, -1)
  const all = { fromToken: 0, keepTokens: 0 }
  if (feeding === 'as-drawn') return prefillSteps({ prompt, known }, all)
  const fed = [...prompt, ...known]
  if (!isLast) return prefillSteps({ prompt: fed, known: [] }, all)
  const first = prompt.length + from
  const pairs = fed.slice(first - 1).map((_, i) => {
    const position = Math.max(0, first - 2 + i)
    return { position, tokens: fed.slice(position, first + i) }
  })
  return [...prefillSteps({ prompt: fed.slice(0, first - 1), known: [] }, all), ...pairs]
}

/** As many layers from `start` on as have room, with a KV cache of one sequence. */
function largestRange(manifest: Manifest, start: number, maxTokens: number, freeBytes: number): LayerRange {
  let end = start
  while (end < manifest.layers.length && bytesOf(manifest, [start, end + 1], maxTokens) <= freeBytes) end++
  if (end === start) throw new BusyHereError(`layer ${start} has no room in ${freeBytes} bytes`)
  return [start, end]
}

function bytesOf(manifest: Manifest, range: LayerRange, maxTokens: number): number {
  const { weightBytes, ownBytes } = leaseBytes(manifest, range, { slots: 1, maxTokens, keepsAll: true })
  return weightBytes + ownBytes
}

async function withRange(
  {
    room: { leases, shards },
    source,
    modelId,
    manifest,
    range,
    maxTokens,
    sampling
  }: Omit<DrawnTokens, 'prompt' | 'tokens'> & {
    room: StageRoom
    source: string
    range: LayerRange
    maxTokens: number
  },
  signal: AbortSignal,
  work: (loaded: LoadedRange) => Promise<void>
): Promise<void> {
  const room = { slots: 1, maxTokens, keepsAll: true } as const
  const request = { source, modelId, range, ...leaseBytes(manifest, range, room) }
  const [lease] = leases.reserve([request]) ?? []
  if (lease === undefined) throw new BusyHereError('the memory is wanted')
  const evicted = new AbortController()
  const freed = Promise.withResolvers<void>()
  const onEvict = ({ id }: { id: string }) => {
    if (id !== lease.id) return
    // A step goes on to its end: whoever has the memory from now on loads nothing before.
    shards.leaves(freed.promise)
    evicted.abort(new BusyHereError('the memory is wanted'))
  }
  leases.events.on('evict', onEvict)
  // It makes room for whoever asks.
  leases.setIdle(lease.id, true)
  const until = AbortSignal.any([signal, evicted.signal])
  try {
    const handle = await shards.acquire(modelId, manifest, range, { signal: until })
    try {
      const batch = await handle.shard.openBatch({ slots: 1, maxTokens })
      try {
        const isHead = range[1] === manifest.layers.length
        const session = await batch.open(isHead ? { sampling } : {})
        await work({
          session,
          check: () => {
            until.throwIfAborted()
            leases.renew(lease.id)
          }
        })
      } finally {
        await batch.close()
      }
    } finally {
      await handle.release()
    }
  } finally {
    freed.resolve()
    leases.events.off('evict', onEvict)
    leases.release(lease.id)
    await shards.sweep()
  }
}

function rowsOf({ data }: HiddenStates, { position, tokens }: PrefillStep, hiddenSize: number): HiddenStates {
  const rows = allocateHidden(tokens.length, hiddenSize)
  rows.data.set(data.subarray(position * hiddenSize, (position + tokens.length) * hiddenSize))
  return rows
}
