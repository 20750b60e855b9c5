import type { LinkState, NodeRecord } from '../../../node/api.ts'
import { importanceOf } from '../../../node/mesh/link-importance.ts'
import { aged, linkMatrix } from '../../../node/mesh/link-matrix.ts'
import { LinkScheduler } from '../../../node/mesh/link-scheduler.ts'
import { LinkTable } from '../../../node/mesh/link-table.ts'
import { Spaced } from '../../../node/mesh/spaced.ts'
import { RemoteError } from '../../../protocols/errors.ts'

interface SimulatedDevice {
  peerId: string
  table: LinkTable
  scheduler: LinkScheduler
  leases: NodeRecord['leases']
  budgetBytes: number
  /** Its row as it last told it, and when. */
  told: { row: NodeRecord['links']; atMs: number }
}

/** How long a record takes to all others. */
const TELL_MS = 50
const NEWS_PAUSE_MS = 1000
const PROBE_MS = 300
/** As `FrameReader` times payloads. */
const FIRST_PIECE_BYTES = 65_504
const MIN_TIMED_BYTES = 4 * FIRST_PIECE_BYTES
const TIMED_PART_MS = 250

/**
 * What devices know of their links, over links of a test's making: the real tables, schedulers and matrix, with measurements,
 * transfers and records that take simulated time. Under vitest's fake timers.
 */
export class SimulatedLinks {
  readonly devices: SimulatedDevice[]
  /** Measurements that were begun, as `FROM TO`, in order. */
  readonly probes: string[] = []
  readonly glances: string[] = []
  /** True of devices that pass tokens on: nothing but glances is let in. */
  readonly busy = new Set<string>()
  readonly #mbps = new Map<string, number>()
  readonly #byId: ReadonlyMap<string, SimulatedDevice>

  constructor(count: number, change: (index: number) => Partial<SimulatedDevice> = () => ({})) {
    const ids = Array.from({ length: count }, (_, i) => `d${String(i).padStart(3, '0')}`)
    this.devices = ids.map((peerId, i) => this.#device(peerId, ids, change(i)))
    this.#byId = new Map(this.devices.map(device => [device.peerId, device]))
  }

  start(): void {
    for (const { peerId, scheduler } of this.devices) {
      for (const other of this.devices) if (other.peerId !== peerId) scheduler.connected(other.peerId)
      scheduler.start()
    }
  }

  stop(): void {
    for (const { scheduler } of this.devices) scheduler.stop()
  }

  /** @param mbps from now on, of what `from` sends to `to`. @default 100 */
  set(from: string, to: string, mbps: number): void {
    this.#mbps.set(`${from} ${to}`, mbps)
  }

  /** A frame as its receiver sees it: in pieces of 65,504 bytes, the last of which hands it on. */
  frame(from: string, to: string, bytes: number): void {
    const mbps = this.#rate(from, to)
    const { table } = this.#get(to)
    const tookMs = (8 * bytes) / (1000 * mbps)
    const sentAtMs = performance.now()
    // What takes long is timed in parts.
    for (let ms = TIMED_PART_MS; ms < tookMs && bytes >= MIN_TIMED_BYTES; ms += TIMED_PART_MS) {
      const partBytes = (1000 * mbps * TIMED_PART_MS) / 8
      setTimeout(() => table.transferred(from, { bytes: partBytes, ms: TIMED_PART_MS }), 1 + ms)
    }
    setTimeout(() => {
      if (bytes >= MIN_TIMED_BYTES && tookMs < TIMED_PART_MS)
        table.transferred(from, transferOf(bytes - FIRST_PIECE_BYTES, mbps))
      table.frameCame(from, { bytes, delayMs: performance.now() + 7e6 - sentAtMs })
    }, 1 + tookMs)
  }

  /** The matrix as a device has it of its own tables and of what it was told. */
  matrixAt(peerId: string): LinkState[] {
    const own = this.#get(peerId).table
    const rows = this.devices.map(({ peerId: id, told: { row, atMs } }) => {
      return [id, id === peerId ? own.row : aged(row, performance.now() - atMs)] as const
    })
    return linkMatrix(new Map(rows), own.statesOf(peerId))
  }

  #device(peerId: string, ids: string[], change: Partial<SimulatedDevice>): SimulatedDevice {
    const news = new Spaced(NEWS_PAUSE_MS, () => this.#tell(peerId))
    const table: LinkTable = new LinkTable({
      onChange: () => news.ask(),
      onDoubt: other => scheduler.doubt(other)
    })
    const recordOf = (id: string) => {
      const { leases, budgetBytes } = this.#get(id)
      return { peerId: id, leases, memory: { budgetBytes, freeBytes: 0 } }
    }
    const others = ids.filter(id => id !== peerId)
    const scheduler: LinkScheduler = new LinkScheduler({
      peerId,
      table,
      connected: () => others,
      importance: other => importanceOf(recordOf(peerId), recordOf(other)),
      onMeasured: () => this.#tell(peerId),
      service: {
        measure: other => this.#measure(peerId, other),
        glance: other => this.#glance(peerId, other)
      }
    })
    const told = { row: {}, atMs: 0 }
    return { peerId, table, scheduler, leases: [], budgetBytes: 1000, told, ...change }
  }

  async #measure(from: string, to: string) {
    if (this.busy.has(from) || this.busy.has(to)) throw new RemoteError(to, 'busy', 'tokens flow')
    this.probes.push(`${from} ${to}`)
    await passed(PROBE_MS)
    this.#get(to).table.probedIn(from, { mbps: this.#rate(from, to), spread: 0, isStarved: false })
    const [outMbps, inMbps] = [this.#rate(from, to), this.#rate(to, from)]
    return { outMbps, inMbps, rttMs: 2, spread: 0, cost: 1e6, isStarved: false }
  }

  async #glance(at: string, from: string) {
    this.glances.push(`${from} ${at}`)
    await passed(PROBE_MS)
    const mbps = Math.min(98, this.#rate(from, at))
    return { mbps, spread: 0, isLeast: mbps >= 98, rttMs: 2, isStarved: false }
  }

  #tell(peerId: string): void {
    const { table } = this.#get(peerId)
    const { row } = table
    const atMs = performance.now()
    setTimeout(() => {
      const device = this.#get(peerId)
      if (device.told.atMs > atMs) return
      device.told = { row, atMs }
      for (const [other, estimate] of Object.entries(row)) {
        this.#get(other).table.heard(peerId, aged({ it: estimate }, TELL_MS).it!)
      }
    }, TELL_MS)
  }

  #rate(from: string, to: string): number {
    return this.#mbps.get(`${from} ${to}`) ?? 100
  }

  #get(peerId: string): SimulatedDevice {
    return this.#byId.get(peerId)!
  }
}

function transferOf(bytes: number, mbps: number): { bytes: number; ms: number } {
  return { bytes, ms: (8 * bytes) / (1000 * mbps) }
}

function passed(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
