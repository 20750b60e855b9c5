/**
 * What has to change for a refusal not to be repeated.
 *
 * - `source`: the device is well, but what it was asked for is gone: the source plans again without that offer, or
 *   stands in line for it.
 * - `peer`: the device failed, or the two disagree about what was agreed, and asking it again does not help: the source
 *   plans again without it. So a device that invents refusals ends no answer.
 */
export type LeaseBlame = 'source' | 'peer'

/** The words of a lease's refusals, and what a source makes of each. */
export const LEASE_CODES = {
  /** Too little memory is free. */
  memory: 'source',
  /** The lease ended: it was not renewed in time, or made room for another while it was idle. */
  expired: 'source',
  /** No holder could send the device the manifest or the weights. */
  weights: 'peer',
  /** Anything else that went wrong on the device. */
  internal: 'peer',
  /** The model has no such layers. */
  'bad-range': 'peer',
  /** The lease was not granted on this stream. */
  'unknown-lease': 'peer',
  /** A lease is loaded once. */
  loaded: 'peer',
  'not-loaded': 'peer',
  /** The lease has no slot of this number. */
  slot: 'peer',
  'session-exists': 'peer',
  /** What was kept beside the slots has made room: the source computes it anew. */
  'not-kept': 'source',
  /** A field of the request must be understood and is not: the device runs an older version. */
  'not-understood': 'peer'
} as const satisfies Record<string, LeaseBlame>

export type LeaseCode = keyof typeof LEASE_CODES

/** A code as a peer sent it; one that only a later version knows counts as `internal`. */
export function leaseCode(text: string): LeaseCode {
  return Object.hasOwn(LEASE_CODES, text) ? (text as LeaseCode) : 'internal'
}

/** What a source makes of a code. */
export function leaseBlame(code: string): LeaseBlame {
  return LEASE_CODES[leaseCode(code)]
}

/** Thrown by a handler to say no with a code of its own; every other error reaches the source as `internal`. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError'
  readonly code: LeaseCode

  constructor(code: LeaseCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
