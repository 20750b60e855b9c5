import { setTimeout as delay } from 'node:timers/promises'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { isListenAddress } from './contacts.ts'
import { InterfaceAnnouncer } from './interface-announcer.ts'
import { PAIRING_TAG } from './pairing-host.ts'
import { signerOf } from './signing.ts'

/** A member of some mesh that takes a code now. Nothing of it is proven, and its id says nothing of the device. */
export interface NearbyMesh {
  /** Peer id for this opening alone. */
  peerId: string
  /** Multiaddrs without a peer id. */
  addresses: string[]
}

/** A question and its answer, and the question once more where the first was lost. */
export const NEARBY_MS = 2500
/** The first answers come within a round trip; who asks a person afterwards waits no longer than this for a second mesh. */
const SETTLED_MS = 500
const INTERVAL_MS = 10_000
/** Somebody may announce any number. */
const MAX_NEARBY = 16

/**
 * Meshes that accept on the local network, in the order in which they are heard of: what is there soon after the first, or
 * none after `timeoutMs`. This device says nothing of itself.
 */
export async function findNearby({
  timeoutMs = NEARBY_MS,
  signal
}: {
  timeoutMs?: number
  signal?: AbortSignal
} = {}): Promise<NearbyMesh[]> {
  const found = new Map<string, NearbyMesh>()
  const first = new AbortController()
  const { peerId: asking } = signerOf(await generateKeyPair('Ed25519'))
  const announcer = new InterfaceAnnouncer({
    peerId: asking,
    serviceTag: PAIRING_TAG,
    intervalMs: INTERVAL_MS,
    addresses: () => [],
    connected: () => [],
    onPeer: (peerId, told) => {
      const addresses = told.filter(isListenAddress)
      if (addresses.length === 0 || (found.size >= MAX_NEARBY && !found.has(peerId))) return
      found.set(peerId, { peerId, addresses })
      first.abort()
    }
  })
  announcer.start()
  try {
    await waited(timeoutMs, signal, first.signal)
    if (found.size > 0) await waited(SETTLED_MS, signal)
    signal?.throwIfAborted()
    return [...found.values()]
  } finally {
    await announcer.stop()
  }
}

async function waited(ms: number, ...signals: (AbortSignal | undefined)[]): Promise<void> {
  const signal = AbortSignal.any(signals.filter(signal => signal !== undefined))
  await delay(ms, undefined, { signal }).catch(() => {
    // Something came, or the caller gives up, and looks itself.
  })
}
