/**
 * The links protocol: how fast bytes get from one peer to another, and back. A measurement sends bursts that grow until
 * one lasts long enough to time; the receiver times it from its first to its last piece, so neither side's clock nor
 * the connection's set-up matters. About 25 kB on a 1 Mbps link, under 100 ms on a fast one.
 *
 * @example
 * ```ts
 * const links = await createLinkService(host, { isBusy: () => tokensFlow })
 * const { outMbps, inMbps, rttMs } = await links.measure(peerId, { signal })
 * ```
 */
import { DeadlineError, RemoteError } from '../errors.ts'
import type { Transport } from '../transport.ts'
import { type LinkMeasurement, measureLink } from './client.ts'
import { GLANCE_TURN, GLANCE_WAIT_MS, LINK_MEASUREMENT_TIMEOUT_MS } from './constants.ts'
import { type Glance, glanceAt } from './glance.ts'
import { serveLinks } from './server.ts'
import { MeasuringTurn, type TurnLimits } from './turn.ts'

export type { LinkMeasurement } from './client.ts'
export type { Glance } from './glance.ts'

export interface LinkHandlers {
  /** True while tokens flow: a peer that wants to measure then is told to come back. */
  isBusy(): boolean
  /**
   * Watches from now on whether this device has too little of its processors to time anything. Those that compute tokens are
   * busy by nature: a glance asks for the event loop alone, without `processors`.
   */
  watchStarvation?(): { isStarved(options?: { processors?: boolean }): boolean; stop(): void }
  /** A peer that measured has sent bursts, which were timed here: what comes from it. */
  onTaken?(peerId: string, rate: { mbps: number; spread: number; isStarved: boolean }): void
}

export interface LinkService {
  /**
   * Measures the link to a peer. One measurement at a time per node, for LINK_MEASUREMENT_TIMEOUT_MS at most.
   *
   * @param options `roughly`: to some ten percent, in a fifth of the time: for who waits for it. @default false
   * @throws {RemoteError} code `busy` when this node or the peer measures already or passes tokens on, `interrupted` when one of
   * them does after bursts were sent; {DeadlineError} when the peer is too slow
   */
  measure(peerId: string, options?: { signal?: AbortSignal; roughly?: boolean }): Promise<LinkMeasurement>
  /**
   * Looks at what comes from a peer with a few bursts that are no larger than a token's hidden states: also while tokens flow. One
   * behind the other, but for those whose peers say nothing: these hold up no others.
   *
   * @param options `isBothWays`: at what goes to it as well. @default false
   * @throws {RemoteError} code `busy` when this node or the peer measures already, was looked at a moment ago, or is of a
   * version without glances and passes tokens on; {DeadlineError} when the peer is too slow
   */
  glance(peerId: string, options?: { isBothWays?: boolean; signal?: AbortSignal }): Promise<Glance>
  stop(): Promise<void>
}

/** @param options.timeoutMs - of one measurement; given so that tests need not wait */
export async function createLinkService(
  transport: Transport,
  handlers: LinkHandlers,
  { timeoutMs = LINK_MEASUREMENT_TIMEOUT_MS }: { timeoutMs?: number } = {}
): Promise<LinkService> {
  const turn = new MeasuringTurn(() => handlers.isBusy())
  const server = await serveLinks(transport, turn, { timeoutMs, handlers })

  const timed = async <T extends { isStarved: boolean }>(
    peerId: string,
    {
      signal,
      processors,
      limits
    }: { signal: AbortSignal | undefined; processors: boolean; limits?: TurnLimits },
    work: (until: AbortSignal, progressed: () => void) => Promise<T>
  ): Promise<T> => {
    const timeout = AbortSignal.timeout(timeoutMs)
    const until = signal ? AbortSignal.any([signal, timeout]) : timeout
    const watch = handlers.watchStarvation?.()
    try {
      const found = await turn.take(peerId, progressed => work(until, progressed), limits)
      return { ...found, isStarved: found.isStarved || watch?.isStarved({ processors }) === true }
    } catch (error) {
      signal?.throwIfAborted()
      if (!timeout.aborted) throw error
      throw new DeadlineError(`the link to ${peerId} could not be measured within ${timeoutMs} ms`)
    } finally {
      watch?.stop()
    }
  }

  return {
    async measure(peerId, { signal, roughly } = {}) {
      if (turn.taken || turn.isWith(peerId)) throw new RemoteError(peerId, 'busy', 'this node is busy')
      return await timed(peerId, { signal, processors: true }, until =>
        measureLink(transport, turn, peerId, { until, roughly })
      )
    },
    async glance(peerId, { isBothWays = false, signal } = {}) {
      const untilMs = performance.now() + GLANCE_WAIT_MS
      // One that waits with others looks again whether it is its turn.
      while (turn.letGo !== undefined && performance.now() < untilMs) {
        await turn.letGo
        signal?.throwIfAborted()
      }
      if (turn.measuring || turn.isWith(peerId)) throw new RemoteError(peerId, 'busy', 'this node is busy')
      return await timed(peerId, { signal, processors: false, limits: GLANCE_TURN }, (until, onBytes) =>
        glanceAt(transport, turn, peerId, { until, isBothWays, onBytes })
      )
    },
    async stop() {
      await server.stop()
      turn.stop()
    }
  }
}
