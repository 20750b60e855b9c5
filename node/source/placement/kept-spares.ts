import { logger } from '../../../models/log.ts'
import { LEASE_RENEW_MS } from '../../constants.ts'
import type { LeaseStream } from '../../mesh/peers.ts'
import type { Deployment } from './deployment.ts'

const log = logger('edgeshard:source')

interface Kept {
  deployment: Deployment
  lease: LeaseStream
  leaseId: string
}

/** Leases of spares that have what a loss would have them load, and keep it ready: each for as long as the deployment is there. */
export class KeptSpares {
  readonly #kept = new Set<Kept>()
  /** Deployments that were gone at the last look: what takes their place may be on its way to the very devices. */
  #gone: ReadonlySet<Deployment> = new Set()
  #renewing: NodeJS.Timeout | undefined

  get size(): number {
    return this.#kept.size
  }

  keep(kept: Kept): void {
    this.#kept.add(kept)
    this.#renewing ??= setInterval(() => this.#renew(), LEASE_RENEW_MS).unref()
    void kept.lease.ended.then(() => this.#forget(kept))
  }

  /** Ends those whose deployment is gone at two looks in a row. */
  look(isThere: (deployment: Deployment) => boolean): void {
    const gone = new Set<Deployment>()
    for (const { deployment, lease } of this.#kept) {
      if (isThere(deployment)) continue
      gone.add(deployment)
      if (this.#gone.has(deployment)) lease.end()
    }
    this.#gone = gone
  }

  close(): void {
    for (const { lease } of this.#kept) lease.end()
  }

  #renew(): void {
    for (const { lease, leaseId } of this.#kept) {
      const { peerId } = lease
      const passOver = log.passOver('a spare keeps nothing ready any more; a loss costs a load', { peerId })
      void lease.renew(leaseId).catch(error => {
        passOver(error)
        lease.end()
      })
    }
  }

  #forget(kept: Kept): void {
    this.#kept.delete(kept)
    if (this.#kept.size > 0) return
    clearInterval(this.#renewing)
    this.#renewing = undefined
  }
}
