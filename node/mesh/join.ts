import { readContacts, splitAddress, writeContacts } from './contacts.ts'
import { readMeshSecret, saveMeshSecret } from './membership.ts'
import type { Ticket } from './ticket.ts'

export type JoinOutcome = 'joined' | 'replaced' | 'unchanged'

/**
 * Makes a home a member of the ticket's mesh and notes its addresses for the next start. The caller holds the home's
 * lock. Peers of a mesh that is left are forgotten.
 */
export async function joinMesh(home: string, { secret, addresses }: Ticket): Promise<JoinOutcome> {
  const before = await readMeshSecret(home)
  const same = before !== null && Buffer.from(before).equals(secret)
  const contacts = same ? await readContacts(home) : new Map<string, string[]>()
  for (const text of addresses) {
    const { address, peerId } = splitAddress(text)
    if (peerId !== undefined) contacts.set(peerId, [...new Set([address, ...(contacts.get(peerId) ?? [])])])
  }
  // The contacts first: after a crash between the two, old secret and new addresses only cost a refused dial.
  await writeContacts(home, contacts)
  if (!same) await saveMeshSecret(home, secret)
  return same ? 'unchanged' : before === null ? 'joined' : 'replaced'
}
