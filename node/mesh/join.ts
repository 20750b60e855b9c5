import { readContacts, splitAddress, writeContacts } from './contacts.ts'
import { readMembership, saveMembership } from './membership.ts'
import type { Ticket } from './ticket.ts'

export type JoinOutcome = 'joined' | 'replaced' | 'unchanged'

/**
 * Makes a home a member of the ticket's mesh and notes its addresses for the next start. The caller holds the home's
 * lock. Peers of a mesh that is left are forgotten.
 */
export async function joinMesh(home: string, { secret, epoch, addresses }: Ticket): Promise<JoinOutcome> {
  const before = await readMembership(home)
  const same = before !== null && Buffer.from(before.secret).equals(secret)
  const contacts = same ? await readContacts(home) : new Map<string, string[]>()
  for (const text of addresses) {
    const { address, peerId } = splitAddress(text)
    if (peerId !== undefined) contacts.set(peerId, [...new Set([address, ...(contacts.get(peerId) ?? [])])])
  }
  // The contacts first: after a crash between the two, old secret and new addresses only cost a refused dial.
  await writeContacts(home, contacts)
  if (!same) await saveMembership(home, { secret, epoch, banned: [] })
  return same ? 'unchanged' : before === null ? 'joined' : 'replaced'
}
