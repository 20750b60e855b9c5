import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { StopMatcher } from '../../../node/source/stop-matcher.ts'

function feed(stops: string[], pieces: string[]): { text: string; stopped: boolean } {
  const matcher = new StopMatcher(stops)
  let text = ''
  for (const piece of pieces) {
    const next = matcher.push(piece)
    text += next.text
    if (next.stopped) return { text, stopped: true }
  }
  return { text: text + matcher.flush(), stopped: false }
}

describe('StopMatcher', () => {
  it('ends before a stop string that arrives in pieces', () => {
    expect(feed(['END'], ['one E', 'N', 'D two'])).toEqual({ text: 'one ', stopped: true })
  })

  it('gives back what only looked like a beginning', () => {
    expect(feed(['END'], ['E', 'NE', 'EN'])).toEqual({ text: 'ENEEN', stopped: false })
  })

  it('takes the stop string that comes first', () => {
    expect(feed(['late', 'ly'], ['early or late'])).toEqual({ text: 'ear', stopped: true })
  })

  it('cuts at the first occurrence however the text is cut into pieces', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 12 })
    fc.assert(
      fc.property(
        fc.array(letters),
        fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 3 }),
        (pieces, stop) => {
          const whole = pieces.join('')
          const at = whole.indexOf(stop)
          expect(feed([stop], pieces)).toEqual({
            text: at < 0 ? whole : whole.slice(0, at),
            stopped: at >= 0
          })
        }
      )
    )
  })
})
