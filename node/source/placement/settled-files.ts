import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { z } from 'zod'
import { readJsonObject } from '../../../models/formats/files.ts'
import { logger } from '../../../models/log.ts'
import { SHA256 } from '../../../models/sha256.ts'
import type { LayerProfile } from '../../api.ts'
import { writePrivate } from '../../mesh/files.ts'
import { medianOf } from '../median.ts'
import type { Timed, Work } from './corrections.ts'
import type { DeviceTimes, Settled, SettledTimes } from './settled-times.ts'

const log = logger('edgeshard:source')

/** Devices with a model each; those of which answers were longest ago go first. */
const MAX_DEVICES = 512
const MAX_MODELS = 128
const MAX_FILE_BYTES = 512 * 1024
/** Answers follow each other quickly; what they teach is written once for many. */
const WRITE_AFTER_MS = 5_000
/**
 * How much of what a device takes is kept: more than that is other work on it, or its heat, which passes. What is kept falls
 * back to the cost model's own by half in each such time, so that what was wrong, or was said to mislead, does not stay.
 */
const KEPT_FACTORS = [0.5, 2] as const
const KEPT_TURN_MS = 20
const KEPT_LOADS = [0.2, 5] as const
const KEPT_HOP_MS = 3
const HALF_LIFE_MS = 6 * 60 * 60_000

const factor = z.number().min(KEPT_FACTORS[0]).max(KEPT_FACTORS[1])
const turn = z.number().min(0).max(KEPT_TURN_MS)
const Kept = z.strictObject({
  peerId: z.string().min(1).max(200),
  processor: z
    .string()
    .regex(/^[\w-]{1,40}$/)
    .exactOptional(),
  modelId: z.string().regex(SHA256),
  borrowed: z.boolean(),
  /** Digest of the times that the factors are of. */
  profile: z.string().regex(SHA256),
  single: factor,
  batched: factor,
  singleTurnMs: turn,
  batchedTurnMs: turn,
  /** Absent in files of earlier versions. */
  wholeTurnMs: turn.exactOptional(),
  atMs: z.number().min(0).max(8.64e15)
})
const Hop = z.strictObject({ overheadMs: z.number().min(0).max(KEPT_HOP_MS), atMs: Kept.shape.atMs })
const Load = z.strictObject({
  modelId: Kept.shape.modelId,
  factor: z.number().min(KEPT_LOADS[0]).max(KEPT_LOADS[1]),
  atMs: Kept.shape.atMs
})
const File = z.object({
  devices: z.array(Kept).max(MAX_DEVICES),
  hop: Hop.exactOptional(),
  loads: z.array(Load).max(MAX_MODELS).default([])
})

type Load = z.infer<typeof Load>
type Kept = z.infer<typeof Kept>
type Hop = z.infer<typeof Hop>

export interface SettledFilesInit {
  /** Folder of the home, where times of layers are. */
  dir: string
  /** Milliseconds since the epoch. */
  wallMs: () => number
}

/** What answers have settled on, kept in a file over restarts: by device, model, the times that it is of, and kind of work. */
export class SettledFiles implements SettledTimes {
  readonly #path: string
  readonly #wallMs: () => number
  /** In the order of settling, the latest last. */
  readonly #devices = new Map<string, Kept>()
  readonly #loads = new Map<string, Load>()
  #hop: Hop | undefined
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<void> = Promise.resolve()

  private constructor({ dir, wallMs }: SettledFilesInit) {
    this.#path = join(dir, 'settled.json')
    this.#wallMs = wallMs
  }

  /** Reads what earlier runs have kept; a file that is damaged, too large or not of this kind counts as none. */
  static async read(init: SettledFilesInit): Promise<SettledFiles> {
    const files = new SettledFiles(init)
    try {
      const json = await readJsonObject(files.#path, MAX_FILE_BYTES)
      if (json === undefined) return files
      const { devices, hop, loads } = File.parse(json)
      for (const kept of devices) files.#devices.set(keyOf(kept), kept)
      files.#hop = hop
      for (const load of loads) files.#loads.set(load.modelId, load)
    } catch (error) {
      log.passOver('what answers have taught cannot be read; it is learned anew')(error)
    }
    return files
  }

  of(timed: Timed, profile: LayerProfile | undefined): (DeviceTimes & { share: number }) | undefined {
    const kept = this.#devices.get(keyOf(timed))
    if (kept === undefined || profile === undefined || kept.profile !== digestOf(profile)) return undefined
    const share = this.#shareOf(kept)
    return {
      single: kept.single ** share,
      batched: kept.batched ** share,
      singleTurnMs: kept.singleTurnMs * share,
      batchedTurnMs: kept.batchedTurnMs * share,
      wholeTurnMs: (kept.wholeTurnMs ?? kept.batchedTurnMs) * share,
      share
    }
  }

  get hopOverheadMs(): number | undefined {
    // Halved it would be less than any hop takes: it is kept, or it is not.
    return this.#hop !== undefined && this.#shareOf(this.#hop) >= 0.5 ? this.#hop.overheadMs : undefined
  }

  get usualTurnsMs(): Record<Work, number> | undefined {
    const devices = [...this.#devices.values()]
    const alone = medianOf(devices.map(kept => kept.singleTurnMs * this.#shareOf(kept)))
    const shared = medianOf(devices.map(kept => kept.batchedTurnMs * this.#shareOf(kept)))
    return alone === undefined || shared === undefined ? undefined : { alone, shared }
  }

  settle(devices: readonly Settled[], hopOverheadMs: number): void {
    const atMs = this.#wallMs()
    for (const { timed, profile, times } of devices) {
      const { peerId, processor, modelId, borrowed } = timed
      const key = keyOf(timed)
      this.#devices.delete(key)
      this.#devices.set(key, {
        ...{ peerId, modelId, borrowed, profile: digestOf(profile), atMs },
        ...(processor !== undefined && { processor }),
        single: within(times.single, KEPT_FACTORS),
        batched: within(times.batched, KEPT_FACTORS),
        singleTurnMs: within(times.singleTurnMs, [0, KEPT_TURN_MS]),
        batchedTurnMs: within(times.batchedTurnMs, [0, KEPT_TURN_MS]),
        wholeTurnMs: within(times.wholeTurnMs, [0, KEPT_TURN_MS])
      })
      if (this.#devices.size > MAX_DEVICES) this.#devices.delete(this.#devices.keys().next().value!)
    }
    this.#hop = { overheadMs: within(hopOverheadMs, [0, KEPT_HOP_MS]), atMs }
    this.#writeLater()
  }

  loadFactorOf(modelId: string): number | undefined {
    const load = this.#loads.get(modelId)
    return load && load.factor ** this.#shareOf(load)
  }

  settleLoad(modelId: string, factor: number): void {
    this.#loads.delete(modelId)
    this.#loads.set(modelId, { modelId, factor: within(factor, KEPT_LOADS), atMs: this.#wallMs() })
    if (this.#loads.size > MAX_MODELS) this.#loads.delete(this.#loads.keys().next().value!)
    this.#writeLater()
  }

  /** Writes what has not been written yet. What cannot be written is lost at the end of this run. */
  async write(): Promise<void> {
    if (this.#timer !== undefined) {
      clearTimeout(this.#timer)
      this.#timer = undefined
      const file = {
        devices: [...this.#devices.values()],
        loads: [...this.#loads.values()],
        ...(this.#hop && { hop: this.#hop })
      }
      const bytes = Buffer.from(JSON.stringify(file))
      // One at a time, or an older one might be the last.
      this.#writing = this.#writing.then(() =>
        writePrivate(this.#path, bytes).catch(
          log.passOver('what answers have taught cannot be kept; the next start learns it anew')
        )
      )
    }
    await this.#writing
  }

  #writeLater(): void {
    this.#timer ??= setTimeout(() => void this.write(), WRITE_AFTER_MS).unref()
  }

  /** What is left of what was kept, 1 to 0; what lies ahead was kept by a clock that was wrong. */
  #shareOf({ atMs }: { atMs: number }): number {
    const ageMs = this.#wallMs() - atMs
    return ageMs < 0 ? 0 : 0.5 ** (ageMs / HALF_LIFE_MS)
  }
}

function within(value: number, [min, max]: readonly [number, number]): number {
  return Math.min(max, Math.max(min, value))
}

function keyOf({ peerId, processor, modelId, borrowed }: Timed): string {
  return `${peerId} ${modelId} ${borrowed}${processor === undefined ? '' : ` ${processor}`}`
}

const digests = new WeakMap<LayerProfile, string>()

/** The same for the same times, in whatever order they are written. */
function digestOf(profile: LayerProfile): string {
  const known = digests.get(profile)
  if (known !== undefined) return known
  const sorted = (_: string, value: unknown) =>
    value !== null && typeof value === 'object' && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value
  const digest = createHash('sha256').update(JSON.stringify(profile, sorted)).digest('hex')
  digests.set(profile, digest)
  return digest
}
