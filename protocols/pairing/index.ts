/**
 * The pairing protocol: a device that was told six digits shows that it knows them to the member that shows them, and gets
 * a ticket. Who was told nothing has one guess of a million a run, in the middle of two others too.
 *
 * @example
 * ```ts
 * const { stop } = await servePairing(host, { began, shown: () => opening, wrong, right: device => invite(device) })
 * const outcome = await pair(otherHost, peerId, { code: '123456', device }, { signal })
 * if (outcome.type === 'refused') console.error(outcome.code)
 * ```
 */

export { type Paired, pair } from './client.ts'
export type { PairingCode } from './codes.ts'
export { CODE_DIGITS } from './constants.ts'
export { type PairingHandlers, servePairing } from './server.ts'
