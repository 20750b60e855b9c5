import type { Deployments } from '../../../../node/source/placement/deployments.ts'
import { STATEFUL } from '../../../fixtures/random-model.ts'
import { SimulatedMesh, type SimulatedNode, shareOf, simulatedModel } from '../mesh.ts'
import type { ChurnEvent, EventKind } from './events.ts'

export const MODELS = [simulatedModel('churned'), simulatedModel('other'), simulatedModel('states', STATEFUL)]

/** Devices that are prompted: the first has room for every model by itself, the second one needs others. */
export const SOURCES = ['a', 'b']
/** Others that there are at least, and at most. */
const LEAST_PEERS = 3
const MOST_PEERS = 7
const HOURS_MS = 3_600_000

/** A mesh to which things happen, and what undoes each. */
export class ChurnMesh {
  readonly mesh = new SimulatedMesh(...MODELS)
  readonly sources: { id: string; deployments: Deployments }[]
  /** Sets the time of day that everything reads, by so many ms. */
  readonly #setClock: (byMs: number) => void
  readonly #undo = new Set<() => void>()
  #joined = 0

  constructor(setClock: (byMs: number) => void) {
    this.#setClock = setClock
    const { mesh } = this
    mesh.add('a', {
      memoryBytes: shareOf(MODELS[0]!, 6, 4, 512),
      models: MODELS,
      decodeMs: 6,
      stepMs: 4,
      ...CACHES
    })
    mesh.add('b', {
      memoryBytes: shareOf(MODELS[0]!, 0.6, 2),
      models: MODELS,
      decodeMs: 3,
      stepMs: 3,
      ...CACHES
    })
    for (const share of [0.8, 1.2, 2.5, 5]) this.#join(share, share)
    this.sources = SOURCES.map(id => ({ id, deployments: mesh.get(id).source().deployments }))
  }

  /** Devices that there are besides the sources. */
  get peers(): string[] {
    return [...this.mesh.nodes.keys()].filter(id => !SOURCES.includes(id))
  }

  /** Does what an event says, where there is anything that it can happen to. @returns what was done, in words */
  happen(event: ChurnEvent): string | undefined {
    const { kind, pick, other, amount, lastsMs } = event
    const { mesh, peers } = this
    const one = peers[Math.floor(pick * peers.length)]!
    const all = [...mesh.nodes.keys()]
    const any = all[Math.floor(pick * all.length)]!
    const others = all.filter(id => id !== any)
    const second = others[Math.floor(other * others.length)]!
    return this.#acts(one, any, second, amount, lastsMs)[kind]()
  }

  /** Everything that lasts is over, at once. */
  heal(): void {
    for (const undo of [...this.#undo]) undo()
  }

  #acts(
    one: string,
    any: string,
    second: string,
    amount: number,
    lastsMs: number
  ): Record<EventKind, () => string | undefined> {
    const { mesh } = this
    const seconds = `for ${(lastsMs / 1000).toFixed(1)} s`
    const during = (begin: () => void, end: () => void) => {
      begin()
      this.#endsAfter(lastsMs, end)
    }
    const onNode = (id: string, begin: (node: SimulatedNode) => void, end: (node: SimulatedNode) => void) => {
      const node = mesh.get(id)
      during(
        () => begin(node),
        () => end(node)
      )
    }
    return {
      join: () => {
        if (this.peers.length >= MOST_PEERS) return undefined
        return `${this.#join(amount * 4 + 0.3, 0.5 + 6 * amount)} joins`
      },
      leave: () => {
        if (this.peers.length <= LEAST_PEERS) return undefined
        mesh.leave(one)
        return `${one} leaves`
      },
      drop: () => {
        during(
          () => mesh.vanish(one),
          () => mesh.nodes.has(one) && mesh.comeBack(one)
        )
        return `${one} is unplugged ${seconds}`
      },
      restart: () => {
        mesh.restart(one)
        return `${one} is killed and started again`
      },
      sleep: () => {
        void mesh.sleep(one, lastsMs)
        return `${one} sleeps ${seconds}`
      },
      part: () => {
        during(
          () => mesh.part(any, second),
          () => mesh.nodes.has(any) && mesh.nodes.has(second) && mesh.rejoin(any, second)
        )
        return `${any} and ${second} cannot reach each other ${seconds}`
      },
      deafen: () => {
        during(
          () => mesh.deafen(any, second),
          () => mesh.hear(any, second)
        )
        return `${any} does not hear ${second} ${seconds}`
      },
      drift: () => {
        const mbps = 10 ** (4 * amount - 1)
        for (const way of [`${any} ${second}`, `${second} ${any}`]) mesh.linkMbps.set(way, mbps)
        mesh.latencyMs = 1 + Math.round(10 * amount)
        mesh.change()
        return `the link of ${any} and ${second} has ${mbps.toFixed(1)} Mbps, every way ${mesh.latencyMs} ms`
      },
      busy: () => {
        const factor = 2 + 30 * amount
        onNode(
          any,
          ({ runtime: { speed } }) => {
            speed.stepMs *= factor
          },
          ({ runtime: { speed } }) => {
            speed.stepMs /= factor
          }
        )
        return `${any} takes ${factor.toFixed(1)} times as long ${seconds}`
      },
      drain: () => {
        during(
          () => mesh.drain(one),
          () => mesh.nodes.has(one) && mesh.drain(one, false)
        )
        return `${one} is drained ${seconds}`
      },
      clock: () => {
        const byMs = Math.round((amount - 0.5) * 12 * HOURS_MS)
        this.#setClock(byMs)
        return `the time of day is set by ${(byMs / HOURS_MS).toFixed(1)} h`
      },
      'disk-full': () => {
        onNode(
          any,
          ({ store }) => {
            store.full = true
          },
          ({ store }) => {
            store.full = false
          }
        )
        return `the disk of ${any} is full ${seconds}`
      },
      crash: () => {
        mesh.get(any).runtime.crash()
        return `what computes on ${any} ends`
      },
      'load-fails': () => {
        onNode(
          any,
          ({ runtime: { failing } }) => {
            failing.load = new Error('this device has no memory left')
          },
          ({ runtime: { failing } }) => {
            delete failing.load
          }
        )
        return `${any} loads nothing ${seconds}`
      },
      'step-fails': () => {
        onNode(
          one,
          ({ runtime: { failing } }) => {
            failing.step = new Error('the step failed')
          },
          ({ runtime: { failing } }) => {
            delete failing.step
          }
        )
        return `steps of ${one} fail ${seconds}`
      },
      damage: () => {
        onNode(
          one,
          ({ runtime }) => {
            runtime.damaged = true
          },
          ({ runtime }) => {
            runtime.damaged = false
          }
        )
        return `${one} computes no numbers ${seconds}`
      }
    }
  }

  #endsAfter(ms: number, end: () => void): void {
    const undo = () => {
      clearTimeout(timer)
      if (this.#undo.delete(undo)) end()
    }
    const timer = setTimeout(undo, ms)
    this.#undo.add(undo)
  }

  #join(share: number, decodeMs: number): string {
    const id = `p${this.#joined++}`
    this.mesh.add(id, {
      memoryBytes: shareOf(MODELS[0]!, share, 2),
      decodeMs,
      stepMs: 1 + decodeMs,
      ...CACHES
    })
    return id
  }
}

const CACHES = { prefixCacheBytes: 64 * 1024, prefetchBytes: 2 ** 20 }
