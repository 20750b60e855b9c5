import { InvalidMessageError, PeerLostError, StreamEndedError } from '../../protocols/errors.ts'
import { CODE_DIGITS, type Paired, pair } from '../../protocols/pairing/index.ts'
import { messageOf } from '../../protocols/text.ts'
import { PairingError } from './errors.ts'
import { loadIdentity } from './identity.ts'
import { isOtherSecret } from './other-secret.ts'
import { createPairingHost, hostEvents } from './pairing-host.ts'
import { signerOf } from './signing.ts'
import { decodeTicket, type Ticket } from './ticket.ts'

/** Where a member takes the code. */
export interface PairingPlace {
  /** Multiaddrs without a peer id. */
  addresses: string[]
  /** Who is to answer there, where that is known. */
  peerId?: string
}

/** A dial, and two round trips with a person's device that may be busy. */
export const PAIR_TIMEOUT_MS = 30_000

const CODE = new RegExp(`^\\d{${CODE_DIGITS}}$`)

/** The six digits of what a person typed, however grouped; undefined where it is no code. */
export function readCode(text: string): string | undefined {
  const digits = text.replace(/[\s-]/g, '')
  return CODE.test(digits) ? digits : undefined
}

/**
 * Shows a member the code that it shows itself, and gets a ticket for the device of this home. The caller holds the home's
 * lock.
 *
 * @throws {PairingError} where nobody answers, pairing is closed, or the code is another one
 */
export async function pairForTicket(
  home: string,
  place: PairingPlace,
  code: string,
  { timeoutMs = PAIR_TIMEOUT_MS, signal }: { timeoutMs?: number; signal?: AbortSignal } = {}
): Promise<Ticket> {
  const device = signerOf(await loadIdentity(home)).peerId
  const deadline = AbortSignal.timeout(timeoutMs)
  const until = signal === undefined ? deadline : AbortSignal.any([signal, deadline])
  const paired = await shown(place, { code, device }, timeoutMs, until).catch((error: Error) => {
    signal?.throwIfAborted()
    throw explained(error, place)
  })
  if (paired.type === 'ticket') return decodeTicket(paired.ticket)
  if (paired.code === 'wrong-code') {
    throw new PairingError(
      'the other device shows another code. Where this one was typed right, somebody else has answered: try once more at most',
      { isWrongCode: true }
    )
  }
  throw new PairingError(CLOSED)
}

const CLOSED =
  "pairing is closed there: 'edgeshard pair' on a device of the mesh opens it for two minutes and shows a new code"

async function shown(
  { addresses, peerId }: PairingPlace,
  what: { code: string; device: string },
  timeoutMs: number,
  signal: AbortSignal
): Promise<Paired> {
  const host = await createPairingHost({ port: 0, listen: '127.0.0.1' })
  try {
    await host.start(hostEvents({}))
    signal.throwIfAborted()
    const member = await host.dial(addresses, peerId, { timeoutMs })
    return await pair(host, member, what, { signal })
  } finally {
    await host.stop()
  }
}

function explained(error: Error, { addresses }: PairingPlace): PairingError {
  if (error instanceof InvalidMessageError) {
    return new PairingError(
      `who answers at ${addresses[0]} does not know the code itself: it is not the device that shows it. Open pairing there again for a new code`,
      { cause: error }
    )
  }
  // A listener that has just closed drops what is under way.
  if (error instanceof PeerLostError || error instanceof StreamEndedError)
    return new PairingError(CLOSED, { cause: error })
  if (isOtherSecret(error)) {
    return new PairingError(
      `a node of a mesh answers at ${addresses.join(', ')}, and takes no codes: give 'edgeshard join --peer' the address that 'edgeshard pair' prints there, which has another port`,
      { cause: error }
    )
  }
  return new PairingError(
    `nobody takes a code at ${addresses.join(', ')} (${messageOf(error)}): 'edgeshard pair' on a device of the mesh opens pairing for two minutes`,
    { cause: error }
  )
}
