import { createHash } from 'node:crypto'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { Host, type HostEvents } from './host.ts'

/** mDNS tag of members that pair; the same for all meshes, since who joins knows none. */
export const PAIRING_TAG = '_esp-pairing._udp.local'
/** No secret: it keeps members' listeners and this one apart. */
export const PAIRING_PROLOGUE = new Uint8Array(
  createHash('sha256').update('edgeshard pairing prologue 1').digest()
)

/**
 * A host for pairing alone, on either side: its key is drawn for the occasion, so that its peer id says nothing, and its
 * prologue is one that everybody knows. What is spoken on it proves nothing before the code does.
 */
export async function createPairingHost(where: { port: number; listen?: string }): Promise<Host> {
  return await Host.create({
    ...where,
    privateKey: await generateKeyPair('Ed25519'),
    prologue: PAIRING_PROLOGUE,
    serviceTag: undefined,
    gate: { accepts: () => true, hasMet: () => true }
  })
}

/** For a side that only wants to know of some of what happens. */
export function hostEvents(events: Partial<HostEvents>): HostEvents {
  return {
    onAnnounced() {},
    onConnected() {},
    onDisconnected() {},
    onIdentified() {},
    onTouched() {},
    ...events
  }
}
