import { expect, test } from 'vitest'
import type { PairingState } from '../../../node/api.ts'
import { outcomeOf } from '../../../node/page/pairing-view.ts'

type End = NonNullable<Extract<PairingState, { open: false }>['end']>

test('the page says of each end of pairing which it was', () => {
  const ends: Record<End, RegExp> = {
    paired: /^Confirmed: .* at 192\.0\.2\.7 typed the digits and may join/,
    failed: /at 192\.0\.2\.7 typed the digits, but no ticket could be made/,
    tries: /^Refused: wrong digits/,
    expired: /two minutes are over/,
    closed: /^It was stopped/
  }
  for (const [end, said] of Object.entries(ends)) {
    const state = { open: false, end: end as End, device: 'a'.repeat(52), from: '192.0.2.7' } as const
    expect(outcomeOf(state, undefined)).toMatch(said)
  }
})
