import { deadlineMs } from '../fixtures/machine.ts'
import { type Address, meshOf } from './client.ts'

/** One device of the mesh under test. */
export interface Device {
  readonly name: string
  readonly peerId: string
  /** Address of its API; another one after a restart. */
  readonly address: Address
  /** Process id of the node itself. */
  readonly pid: number
}

/** Devices that can be disturbed. `start` brings a killed one back on its own home. */
export interface ChaosMesh extends AsyncDisposable {
  readonly devices: readonly Device[]
  start(device: Device): Promise<void>
  /** Only where there are cables. */
  readonly cables?: Cables
}

export interface Cables {
  unplug(device: Device): Promise<void>
  plug(device: Device): Promise<void>
  /** Both directions of every link of a device; null restores them. */
  slow(device: Device, link: { mbps: number; latencyMs: number } | null): Promise<void>
}

/** How long the nodes keep a model loaded without prompts: short enough to see all leases given back. */
export const KEEP_ALIVE_MS = 60_000

const CONNECT_TIMEOUT_MS = deadlineMs(40_000)

/** Waits until every device sees all others, none of them suspect. */
export async function whole({ devices }: ChaosMesh): Promise<void> {
  const deadline = AbortSignal.timeout(CONNECT_TIMEOUT_MS)
  for (;;) {
    const states = await Promise.all(devices.map(({ address }) => meshOf(address)))
    const missing = states.flatMap(({ self, peers }) =>
      devices
        .filter(({ peerId }) => peerId !== self.peerId)
        .filter(
          ({ peerId }) => !peers.some(peer => peer.peerId === peerId && peer.connected && !peer.suspect)
        )
        .map(({ name }) => `${self.name} does not see ${name}`)
    )
    if (missing.length === 0) return
    if (deadline.aborted)
      throw new Error(`the mesh is not whole after ${CONNECT_TIMEOUT_MS / 1000} s: ${missing.join(', ')}`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}
