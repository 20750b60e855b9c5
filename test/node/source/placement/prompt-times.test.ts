import { describe, expect, test } from 'vitest'
import { headTokenMs, promptTokenMs } from '../../../../node/source/placement/prompt-times.ts'

/** A prompt of 8 tokens takes twice what one takes, one of 32 four times. */
const times = { decodeMs: 2, prefillMsPerToken: 0.25, prefillMsByTokens: { 8: 4, 32: 8 } }

describe('a token of a prompt takes a layer', () => {
  test.each([
    { tokens: 1, ms: 2 },
    { tokens: 8, ms: 4 },
    { tokens: 20, ms: 6 },
    { tokens: 32, ms: 8 },
    // A chunk, and one token behind it.
    { tokens: 33, ms: 10 },
    { tokens: 72, ms: 2 * 8 + 4 }
  ])('its share of the chunks that $tokens tokens go in', ({ tokens, ms }) => {
    expect(tokens * promptTokenMs(times, tokens)).toBeCloseTo(ms)
  })

  test('what its device says of a token, where that has timed no short prompt', () => {
    const { prefillMsByTokens: _, ...older } = times
    expect(promptTokenMs(older, 5)).toBe(0.25)
  })
})

test('a head takes a prompt’s last token alone, however long that is', () => {
  for (const tokens of [1, 20, 500]) expect(tokens * headTokenMs(times, tokens)).toBeCloseTo(2)
})
