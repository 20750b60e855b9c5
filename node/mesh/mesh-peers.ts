import { EventEmitter } from 'node:events'
import type { BlobRef } from '../../models/manifest.ts'
import type { StageFrame } from '../../protocols/stage/index.ts'
import type { LinkState, NodeRecord } from '../api.ts'
import type { FetchBlobOptions } from '../weights/fetch.ts'
import type { Mesh } from './mesh.ts'
import type { LeaseStream, Peers, PeersEvents } from './peers.ts'

/** The peers of the real mesh. */
export class MeshPeers implements Peers {
  readonly peerId: string
  readonly events = new EventEmitter<PeersEvents>()
  readonly #mesh: Mesh

  constructor(mesh: Mesh) {
    this.#mesh = mesh
    this.peerId = mesh.peerId
    // Every deployment that is under way listens.
    this.events.setMaxListeners(0)
    mesh.events.on('disconnect', peerId => this.events.emit('lost', peerId, 'the connection to it was lost'))
    mesh.events.on('suspect', (peerId, suspect) => {
      if (suspect) this.events.emit('silent', peerId)
    })
    mesh.events.on('change', () => this.events.emit('change'))
  }

  get self(): NodeRecord {
    return this.#mesh.self
  }

  get known(): Peers['known'] {
    return this.#mesh.peers
  }

  get links(): LinkState[] {
    return this.#mesh.links
  }

  get apart(): [string, string][] {
    return this.#mesh.apart
  }

  suspects(): Set<string> {
    const away = this.known.filter(({ connected, suspect }) => suspect || !connected)
    return new Set(away.map(({ record }) => record.peerId))
  }

  nameOf(peerId: string): string {
    return this.#mesh.nameOf(peerId)
  }

  async measure(peerIds: readonly string[], options: { signal: AbortSignal }): Promise<void> {
    await this.#mesh.measureRtt(peerIds, options)
    await this.#mesh.measureLinks(peerIds, options)
  }

  async glance(peerIds: readonly string[], options: { signal: AbortSignal }): Promise<void> {
    await Promise.all([this.#mesh.measureRtt(peerIds, options), this.#mesh.glanceAt(peerIds, options)])
  }

  lease(peerId: string, options: { signal: AbortSignal }): Promise<LeaseStream> {
    return this.#mesh.lease(peerId, options)
  }

  send(peerId: string, frame: StageFrame): Promise<void> {
    return this.#mesh.stageStreams.send(peerId, frame)
  }

  fetchBlob(
    ref: BlobRef,
    holders: readonly string[],
    put: (bytes: AsyncIterable<Uint8Array>) => Promise<unknown>,
    options: Omit<FetchBlobOptions, 'link'>
  ): Promise<void> {
    return this.#mesh.fetchBlob(ref, holders, put, options)
  }

  fetchRaw(
    peerId: string,
    sha256: string,
    options: { maxBytes: number; signal: AbortSignal }
  ): AsyncIterable<Uint8Array> {
    return this.#mesh.fetchRaw(peerId, sha256, options)
  }
}
