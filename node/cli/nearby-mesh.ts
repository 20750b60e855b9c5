import { createInterface } from 'node:readline/promises'
import { hostAndPort, splitAddress } from '../mesh/contacts.ts'
import { PairingError } from '../mesh/errors.ts'
import { findNearby } from '../mesh/nearby.ts'
import { type PairingPlace, pairForTicket, readCode } from '../mesh/pair.ts'
import type { Ticket } from '../mesh/ticket.ts'
import { InputError } from './errors.ts'

/** How often a person may mistype; the member takes no more either. */
const MAX_TYPED = 3

const NO_MORE =
  "none of three codes was the one that the other device shows, so that it takes no more: 'edgeshard pair' there shows a new one"

/** What a person may say of where the code is shown, and what it is. */
export interface PairingChoice {
  home: string
  /** `HOST:PORT` or a multiaddr; absent: what the local network tells. */
  peer: string | undefined
  /** Six digits; absent: a person is asked. */
  code: string | undefined
  signal: AbortSignal
}

/**
 * A ticket by pairing, from the mesh that accepts nearby or at an address.
 *
 * @throws {InputError} where none or several accept and nobody can be asked, {PairingError}
 */
export async function ticketByPairing({ home, peer, code, signal }: PairingChoice): Promise<Ticket> {
  if (code !== undefined) return await pairForTicket(home, await onlyPlace(peer, signal), code, { signal })
  const asking = createInterface({ input: process.stdin, output: process.stderr })
  const ended = new AbortController()
  asking.once('close', () => ended.abort(new InputError('nobody typed a code')))
  // A terminal that is asked for a line passes Ctrl-C to who asks.
  asking.on('SIGINT', () => process.kill(process.pid, 'SIGINT'))
  const until = AbortSignal.any([signal, ended.signal])
  try {
    const ask = async (what: string) => {
      const line = await asking.question(what, { signal: until }).catch(error => {
        until.throwIfAborted()
        throw error
      })
      return line.trim()
    }
    const place = await chosenPlace(peer, ask, signal)
    for (let typed = 1; ; typed++) {
      const given = await typedCode(ask)
      try {
        return await pairForTicket(home, place, given, { signal })
      } catch (error) {
        if (!(error instanceof PairingError && error.isWrongCode)) throw error
        if (typed >= MAX_TYPED) throw new PairingError(NO_MORE, { isWrongCode: true })
        process.stderr.write(`${error.message}.\n`)
      }
    }
  } finally {
    asking.close()
  }
}

async function placesNear(peer: string | undefined, signal: AbortSignal): Promise<PairingPlace[]> {
  if (peer !== undefined) {
    const { address, peerId } = splitAddress(peer)
    return [{ addresses: [address], ...(peerId !== undefined && { peerId }) }]
  }
  const places = await findNearby({ signal })
  if (places.length > 0) return places
  throw new InputError(
    "no mesh nearby accepts: run 'edgeshard pair' on a device of the mesh, then this again. Where the two do not find each other, " +
      "'edgeshard join --peer HOST:PORT' with the address that it prints, or 'edgeshard join TICKET' with a ticket of 'edgeshard invite'"
  )
}

async function onlyPlace(peer: string | undefined, signal: AbortSignal): Promise<PairingPlace> {
  const [place, ...others] = await placesNear(peer, signal)
  if (others.length === 0) return place!
  const all = [place!, ...others].map(nameOf).join('; ')
  throw new InputError(`several meshes accept: ${all}. Say which one with --peer HOST:PORT`)
}

async function chosenPlace(
  peer: string | undefined,
  ask: (what: string) => Promise<string>,
  signal: AbortSignal
): Promise<PairingPlace> {
  if (peer === undefined) process.stderr.write('Looking for meshes nearby ...\n')
  const places = await placesNear(peer, signal)
  if (places.length === 1) {
    process.stderr.write(`A mesh accepts at ${nameOf(places[0]!)}.\n`)
    return places[0]!
  }
  for (const [at, place] of places.entries()) process.stderr.write(`  ${at + 1}  ${nameOf(place)}\n`)
  for (;;) {
    const place = places[Number(await ask(`Which one? 1 to ${places.length}: `)) - 1]
    if (place !== undefined) return place
  }
}

async function typedCode(ask: (what: string) => Promise<string>): Promise<string> {
  for (;;) {
    const code = readCode(await ask('The six digits that the other device shows: '))
    if (code !== undefined) return code
    process.stderr.write(
      "Those are not six digits. Who has a ticket types 'edgeshard join' and the ticket.\n"
    )
  }
}

function nameOf({ addresses }: PairingPlace): string {
  return addresses.map(hostAndPort).join(', ')
}
