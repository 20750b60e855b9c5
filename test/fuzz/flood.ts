import { setTimeout as delay } from 'node:timers/promises'
import type { Stream } from '@libp2p/interface'
import type { Host } from '../../node/mesh/host.ts'
import { PROTOCOLS, type ProtocolName } from '../../protocols/versions.ts'
import type { Random } from '../protocols/mutate.ts'
import type { Facts, Saying } from './sayings.ts'

/** What became of streams: the node ended them, answered first or instead, or did neither; or it took none. */
export interface StreamFates {
  ended: number
  answered: number
  silent: number
  refused: number
}

/** Messages on one stream, at most: most streams end before. */
const STREAM_MESSAGES = 40
/** A stream that was said something wrong on ends within this time, or its answer comes. */
const SETTLE_MS = 20
/** Pauses a member that the node takes no stream of. */
const REFUSED_MS = 50

/** So many mutated messages, from any number of members at once. */
export class Flood {
  /** Messages that left on an open stream, by protocol. */
  readonly sent: Record<string, number>
  readonly streams: StreamFates = { ended: 0, answered: 0, silent: 0, refused: 0 }
  readonly #sayings: Record<string, readonly Saying[]>
  readonly #facts: Omit<Facts, 'own'>
  readonly #messages: number

  constructor(sayings: Record<string, readonly Saying[]>, facts: Omit<Facts, 'own'>, messages: number) {
    this.#sayings = sayings
    this.#facts = facts
    this.#messages = messages
    this.sent = Object.fromEntries(Object.keys(sayings).map(protocol => [protocol, 0]))
  }

  get count(): number {
    return Object.values(this.sent).reduce((sum, count) => sum + count, 0)
  }

  get over(): boolean {
    return this.count >= this.#messages
  }

  /** Sends until it is over, or the node has cut the member off. */
  async from(member: Host, random: Random): Promise<void> {
    const facts = { ...this.#facts, own: member.peerId }
    while (!this.over && member.isConnected(facts.target)) {
      const protocol = random.pick(Object.keys(this.#sayings)) as ProtocolName
      const stream = await member.newStream(facts.target, [PROTOCOLS[protocol][0]!]).catch(() => null)
      if (stream === null) {
        // Over a limit, or shut out for a while: it comes again.
        this.streams.refused++
        await delay(REFUSED_MS)
      } else {
        const { ended, answered } = await this.#speak(stream, protocol, facts, random)
        if (ended) this.streams.ended++
        if (answered) this.streams.answered++
        if (!ended && !answered) this.streams.silent++
        stream.abort(new Error('that was all'))
      }
    }
  }

  async #speak(
    stream: Stream,
    protocol: ProtocolName,
    facts: Facts,
    random: Random
  ): Promise<{ ended: boolean; answered: boolean }> {
    let [answered, ended] = [false, false]
    stream.addEventListener('message', () => {
      answered = true
    })
    for (const type of ['close', 'remoteCloseWrite'] as const) {
      stream.addEventListener(type, () => {
        ended = true
      })
    }
    const messages = 1 + random.below(STREAM_MESSAGES)
    for (let at = 0; at < messages && stream.writeStatus === 'writable'; at++) {
      const more = stream.send(random.pick(this.#sayings[protocol]!)(facts, random))
      this.sent[protocol]!++
      if (!more || at % 8 === 7) await delay(1)
    }
    for (let waitedMs = 0; waitedMs < SETTLE_MS && !ended; waitedMs += 5) await delay(5)
    return { ended, answered }
  }
}
