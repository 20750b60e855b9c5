import { setTimeout as delay } from 'node:timers/promises'
import { logger } from '../models/log.ts'
import type { Answers } from './answers.ts'
import type { DrainState, NodeRecord } from './api.ts'
import type { Mesh } from './mesh/index.ts'
import { isNamed, type Peers } from './mesh/peers.ts'
import type { Serving } from './serve/serving.ts'

const log = logger('edgeshard:node')

const CHECK_MS = 50
/** How long sources that have no session here may take to give their leases back; what is left is idle, and lost by nobody. */
const GIVE_BACK_MS = 30_000

export interface DrainComponents {
  mesh: Pick<Mesh, 'update'>
  peers: Pick<Peers, 'self' | 'known' | 'nameOf'>
  serving: Pick<Serving, 'draining' | 'sessions' | 'sources'>
  answers: Pick<Answers, 'running' | 'accepted'>
}

/** Whether this node is being drained: it alone says so to its peers, to the serving role and to whoever prompts it. */
export class Drain {
  readonly #components: DrainComponents
  /** Aborts when it is undone; undefined while nothing is drained. */
  #begun: AbortController | undefined

  constructor(components: DrainComponents) {
    this.#components = components
  }

  get isDraining(): boolean {
    return this.#begun !== undefined
  }

  get state(): DrainState {
    const { peers, serving, answers } = this.#components
    return {
      draining: this.isDraining,
      answers: Math.max(answers.running, answers.accepted),
      sessions: serving.sessions,
      sources: serving.sources.map(peerId => ({ peerId, name: peers.nameOf(peerId) })),
      onlyHere: onlyHere(peers)
    }
  }

  /** Grants nothing any more, and lets the mesh know; once more does nothing. */
  begin(): void {
    if (this.#begun !== undefined) return
    const { mesh, serving } = this.#components
    this.#begun = new AbortController()
    serving.draining = true
    mesh.update({ draining: true })
    log.info('draining')
  }

  /** Is as it was before. */
  undo(): void {
    const { mesh, serving } = this.#components
    this.#begun?.abort()
    this.#begun = undefined
    serving.draining = false
    mesh.update({ draining: undefined })
    log.info('not draining any more')
  }

  /**
   * Waits until no answer runs here, its own or another source's, and no request has some to come; with `handOver` also until the sources have given their
   * leases back, though not for long.
   *
   * @returns false where the signal has aborted before, or it was undone
   */
  async finished({ signal, handOver }: { signal: AbortSignal; handOver: boolean }): Promise<boolean> {
    const { serving, answers } = this.#components
    const until = this.#begun === undefined ? signal : AbortSignal.any([signal, this.#begun.signal])
    let quietMs = 0
    for (;;) {
      const runs = answers.running + answers.accepted + serving.sessions > 0
      quietMs = runs ? 0 : quietMs + CHECK_MS
      const isGivenBack = !handOver || serving.sources.length === 0 || quietMs > GIVE_BACK_MS
      if (until.aborted) return false
      if (!runs && isGivenBack) return true
      await delay(CHECK_MS, undefined, { signal: until }).catch(() => {
        // The signal has aborted: the next turn of the loop ends it.
      })
    }
  }
}

/** Names of this node's models of which it alone, of all connected devices that stay, holds a layer. */
function onlyHere({ self, known }: DrainComponents['peers']): string[] {
  const staying = known.filter(({ connected, record }) => connected && record.draining !== true)
  const isElsewhere = (modelId: string, layer: number) =>
    staying.some(({ record }) => holds(record.models, modelId, layer))
  return self.models
    .filter(isNamed)
    .filter(({ id, layers }) =>
      layers.some(([start, end]) => {
        for (let layer = start; layer < end; layer++) if (!isElsewhere(id, layer)) return true
        return false
      })
    )
    .map(({ name }) => name)
}

function holds(models: NodeRecord['models'], modelId: string, layer: number): boolean {
  return models.some(
    ({ id, layers }) => id === modelId && layers.some(([start, end]) => start <= layer && layer < end)
  )
}
