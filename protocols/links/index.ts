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
export { createLinkService, type LinkHandlers, type LinkMeasurement, type LinkService } from './links.ts'
