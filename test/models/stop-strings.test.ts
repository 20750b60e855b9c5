import { expect, test } from 'vitest'
import { createStopStrings } from '../../models/tokenizer/stop-strings.ts'

function run(stops: string[], parts: string[]): { text: string; stopped: boolean } {
  const matcher = createStopStrings(stops)
  let shown = ''
  for (const part of parts) {
    const { text, met } = matcher.push(part)
    const stopped = met !== undefined
    shown += text
    if (stopped) return { text: shown, stopped }
  }
  return { text: shown + matcher.flush(), stopped: false }
}

test.each([
  ['inside one piece', ['END'], ['abENDcd'], 'ab', true],
  ['over several pieces', ['END'], ['aE', 'N', 'Dx'], 'a', true],
  ['the earliest wins', ['cd', 'b'], ['abcd'], 'a', true],
  ['a beginning that goes on otherwise', ['END'], ['aEN', 'E', 'NE'], 'aENENE', false],
  ['a repeated beginning', ['aab'], ['aa', 'a', 'b'], 'a', true],
  ['none', [''], ['ab', 'c'], 'abc', false]
])('%s', (_, stops, parts, text, stopped) => {
  expect(run(stops, parts)).toEqual({ text, stopped })
})

test('holds back only what could be the beginning of a stop string', () => {
  const matcher = createStopStrings(['\n\n'])
  expect(matcher.push('a\n')).toEqual({ text: 'a', met: undefined })
  expect(matcher.push('b')).toEqual({ text: '\nb', met: undefined })
})
