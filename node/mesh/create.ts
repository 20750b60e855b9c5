import { readContacts, splitAddress } from './contacts.ts'
import { type DialFailure, Discovery } from './discovery.ts'
import { Host } from './host.ts'
import { loadIdentity } from './identity.ts'
import { loadMembership, meshKeys } from './membership.ts'
import { Mesh } from './mesh.ts'
import type { MeshInit } from './mesh-types.ts'
import { signerOf } from './signing.ts'
import { Tickets } from './tickets.ts'

/** Makes keys and sockets; no peer is spoken to before `start`. */
export async function createMesh(init: MeshInit): Promise<Mesh> {
  const peers = (init.peers ?? []).map(splitAddress)
  const privateKey = await loadIdentity(init.home)
  const signer = signerOf(privateKey)
  const [membership, tickets, remembered] = await Promise.all([
    loadMembership(init.home, signer.peerId),
    Tickets.load(init.home),
    readContacts(init.home)
  ])
  let mesh: Mesh | undefined
  const banned = (peerId: string) => mesh?.members.isBanned(peerId) ?? false
  let discovery: Discovery | undefined
  const keys = meshKeys(membership.secret)
  const host = await Host.create({
    privateKey,
    prologue: keys.prologue,
    serviceTag: init.mdns === false ? undefined : keys.serviceTag,
    ...(init.mdnsIntervalMs === undefined ? {} : { mdnsIntervalMs: init.mdnsIntervalMs }),
    banned,
    isProvenHost: host => discovery?.isProvenHost(host) ?? false,
    gate: {
      accepts: peerId => mesh?.members.accepts(peerId) ?? false,
      hasMet: peerId => mesh?.members.hasMet(peerId) ?? false
    },
    version: init.record.version,
    ...(init.protocols === undefined ? {} : { protocols: init.protocols }),
    port: init.port ?? 0,
    ...(init.listen === undefined ? {} : { listen: init.listen })
  })
  const onFailure = (failure: DialFailure) => mesh?.dialFailed(failure)
  const mayDial = (peerId: string, underWay: readonly string[]) => mesh?.mayDial(peerId, underWay) ?? true
  discovery = new Discovery({ host, peers, remembered, banned, mayDial, onFailure })
  mesh = new Mesh(init, { host, discovery, membership, signer, tickets })
  return mesh
}
