import { join } from 'node:path'
import { z } from 'zod'
import { readJsonObject } from '../../models/formats/files.ts'
import { logger } from '../../models/log.ts'
import { plainText } from '../../protocols/text.ts'
import { writePrivate } from '../mesh/files.ts'

const log = logger('edgeshard:node')

const MAX_FILE_BYTES = 64 * 1024
/** So many crashes are kept; the third decides already. */
const KEPT_CRASHES = 8
/** Models whose layers it refuses; the latest are kept, for a peer may have any loaded. */
export const KEPT_REFUSALS = 32
const MAX_REASON_CHARS = 200

const ms = z.number().min(0)
/** What is shown to people, whoever has written the file. */
const text = z.string().transform(value => plainText(value, MAX_REASON_CHARS))
const Kind = z.object({ kind: text, work: text, cpuMs: ms, gpuMs: ms })
const Verdict = z.object({ use: z.enum(['cpu', 'gpu']), reason: text })
/** What trying the GPU found, for one model's layers on one driver. */
const Probe = z.object({
  /** What it hangs on: another driver, program or model is another one. */
  key: z.string(),
  measuredAtMs: ms.max(8.64e15),
  model: text,
  times: z.array(Kind).max(64),
  /** The largest difference to the CPU, relative to the largest number. */
  difference: z.number().min(0).exactOptional(),
  /** Whether rows are the same to the bit in whatever steps and company. */
  keepsBits: z.boolean().exactOptional(),
  allocatableBytes: ms.exactOptional(),
  verdict: Verdict
})
/** Layers of a model that it refused, or computed wrongly. */
const Refusal = z.object({ key: z.string().max(64), atMs: ms, reason: text })
const File = z.object({
  driver: z.string().exactOptional(),
  crashes: z.array(z.object({ atMs: ms, reason: text })).default([]),
  refusals: z.array(Refusal).default([]),
  probe: Probe.exactOptional()
})

export type GpuProbe = z.infer<typeof Probe>
export type GpuTimes = z.infer<typeof Kind>
export type GpuVerdict = z.infer<typeof Verdict>
export type GpuState = z.infer<typeof File>

/** What this device has learnt of its GPU: `gpu.json` in its home. */
export class GpuFile {
  readonly #path: string
  #writing: Promise<void> = Promise.resolve()

  constructor(home: string) {
    this.#path = join(home, 'gpu.json')
  }

  /** What is remembered of this driver: crashes of another one, and a file that is damaged, count for nothing. */
  async read(driver: string): Promise<GpuState> {
    const none = { driver, crashes: [], refusals: [] }
    try {
      const json = await readJsonObject(this.#path, MAX_FILE_BYTES)
      if (json === undefined) return none
      const state = File.parse(json)
      return state.driver === driver ? state : none
    } catch (error) {
      log.passOver('what is known of the GPU cannot be read; it is tried anew')(error)
      return none
    }
  }

  /** Remembers one more crash beside whatever else is known by now: another program may have tried the GPU since. */
  async addCrash(driver: string, crash: GpuState['crashes'][number]): Promise<void> {
    await this.#add(driver, state => ({ ...state, crashes: [...state.crashes, crash] }))
  }

  /** Remembers that layers are refused, in the place of what was remembered of them. */
  async addRefusal(driver: string, refusal: GpuState['refusals'][number]): Promise<void> {
    await this.#add(driver, state => {
      const others = state.refusals.filter(({ key }) => key !== refusal.key)
      return { ...state, refusals: [...others, refusal] }
    })
  }

  /** Crashes and refusals that are left out are forgotten. */
  async write(state: Partial<GpuState>): Promise<void> {
    const plain = <T extends { reason: string }>(entry: T): T => ({
      ...entry,
      reason: plainText(entry.reason, MAX_REASON_CHARS)
    })
    const crashes = (state.crashes ?? []).slice(-KEPT_CRASHES).map(plain)
    const refusals = (state.refusals ?? []).slice(-KEPT_REFUSALS).map(plain)
    await writePrivate(this.#path, Buffer.from(JSON.stringify({ ...state, crashes, refusals })))
  }

  async #add(driver: string, add: (state: GpuState) => GpuState): Promise<void> {
    const writing = this.#writing.then(async () => await this.write(add(await this.read(driver))))
    // Whoever adds this one hears of it; the next one is added all the same.
    this.#writing = writing.catch(() => undefined)
    await writing
  }
}
