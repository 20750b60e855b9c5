/**
 * The mesh as a node uses it: which peers there are, what they offer, and the protocols to them.
 *
 * @example
 * ```ts
 * const mesh = await createMesh({ home, port: 7446, record: { name, version, hardware, memory, models, profiles } })
 * mesh.events.on('connect', (peerId, record) => console.log(`${record.name} is there`))
 * await mesh.start({ stage, leases, weights })
 * const lease = await mesh.lease(peerId, { signal })
 * await mesh.stageStreams.send(peerId, frame)
 * await mesh.fetchBlob(ref, holders, bytes => store.putBlob(ref, bytes))
 * await mesh.stop()
 * ```
 */

export { createMesh } from './create.ts'
export type { KnownPeer } from './directory.ts'
export type { Mesh } from './mesh.ts'
export type { MeshEvents, MeshHandlers, MeshInit } from './mesh-types.ts'
