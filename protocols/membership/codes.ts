/** Why a peer is not spoken with, or a ticket not taken. */
export const MEMBERSHIP_CODES = [
  'other-mesh',
  'not-admitted',
  'banned',
  'ticket-unknown',
  'ticket-expired',
  'ticket-used',
  'full',
  'internal'
] as const

export type MembershipCode = (typeof MEMBERSHIP_CODES)[number]

export function isMembershipCode(word: string | undefined): word is MembershipCode {
  return (MEMBERSHIP_CODES as readonly (string | undefined)[]).includes(word)
}
