/** Why a device gets no ticket. `closed` stands for every reason for which no code is taken. */
export const PAIRING_CODES = ['closed', 'wrong-code', 'internal'] as const

export type PairingCode = (typeof PAIRING_CODES)[number]

export function isPairingCode(word: string | undefined): word is PairingCode {
  return (PAIRING_CODES as readonly (string | undefined)[]).includes(word)
}
