import { join } from 'node:path'
import { multiaddr } from '@multiformats/multiaddr'
import { z } from 'zod'
import { AddressError } from './errors.ts'
import { readIfThere, writePrivate } from './files.ts'

const MAX_CONTACTS = 256
const MAX_ADDRESSES = 16

const file = z.record(z.string().max(128), z.array(z.string().max(256)).max(MAX_ADDRESSES))

/** Where members of the mesh were last reached: peer id to multiaddrs without it. */
export type Contacts = Map<string, string[]>

const contactsPath = (home: string) => join(home, 'peers.json')

/** Remembered peers; a damaged file only costs the memory. */
export async function readContacts(home: string): Promise<Contacts> {
  const bytes = await readIfThere(contactsPath(home))
  if (bytes === null) return new Map()
  try {
    return new Map(Object.entries(file.parse(JSON.parse(bytes.toString('utf8')))))
  } catch {
    return new Map()
  }
}

export async function writeContacts(home: string, contacts: Contacts): Promise<void> {
  const kept = [...contacts].slice(-MAX_CONTACTS).map(([id, list]) => [id, list.slice(0, MAX_ADDRESSES)])
  await writePrivate(contactsPath(home), Buffer.from(JSON.stringify(Object.fromEntries(kept))))
}

/** Splits a multiaddr into the address and the peer id it ends in, if it does. */
export function splitAddress(text: string): { address: string; peerId: string | undefined } {
  try {
    const parsed = multiaddr(text)
    const peerId = parsed.getComponents().findLast(({ name }) => name === 'p2p')?.value
    return { address: parsed.decapsulateCode(P2P_CODE).toString(), peerId }
  } catch (error) {
    throw new AddressError(`'${text.slice(0, 200)}' is not a multiaddr such as /ip4/192.168.1.20/tcp/7446`, {
      cause: error
    })
  }
}

export function isAddress(text: string): boolean {
  try {
    splitAddress(text)
    return true
  } catch {
    return false
  }
}

const P2P_CODE = 0x01a5
