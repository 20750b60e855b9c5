import type { Refusal } from '../../protocols/membership/index.ts'

/** Named to people: a stranger that knows the secret comes under ever new ids. */
const MAX_NAMED = 16

/** Tells people, once a peer, who knows the mesh's secret without being in it, and who takes this device for that. */
export class Refusals {
  readonly #init: { nameOf(peerId: string): string; onNotice(message: string): void }
  readonly #said = new Set<string>()

  constructor(init: { nameOf(peerId: string): string; onNotice(message: string): void }) {
    this.#init = init
  }

  refused(peerId: string, by: 'self' | 'peer', { code, reason = code }: Refusal): void {
    const key = `${peerId} ${by} ${code}`
    // A device that joins shows its ticket before it is admitted, and comes back when it is.
    if (this.#said.has(key) || this.#said.size >= MAX_NAMED) return
    this.#said.add(key)
    const { nameOf, onNotice } = this.#init
    if (by === 'peer') onNotice(`${nameOf(peerId)} does not let this device in: ${reason}`)
    else if (code === 'banned') onNotice(`${nameOf(peerId)} is cut off: ${reason}`)
    else {
      onNotice(
        `${nameOf(peerId)} is cut off: ${reason}. It knows the secret of the mesh: if it is no device of yours, 'edgeshard mesh rotate' locks it out`
      )
    }
  }
}
