import { expect, test } from 'vitest'
import { MAX_FILE_CHARS, withFile } from '../../../node/page/text-file.ts'

test('a file’s text stands below the question, between fences that nothing in it closes', () => {
  expect(withFile('', 'a.txt', 'one\ntwo')).toBe('a.txt:\n```\none\ntwo\n```\n')
  expect(withFile('What is this?  ', 'a.md', '````js\nx\n````\n')).toBe(
    'What is this?\n\na.md:\n`````\n````js\nx\n````\n`````\n'
  )
})

test('a name is one line, whatever it is', () => {
  expect(withFile('', 'a\n```\nb\u202e', 'x')).toBe('a b :\n```\nx\n```\n')
  expect(withFile('', 'n'.repeat(10_000), 'x')!.length).toBeLessThan(200)
})

test('what is no text, or too much of it, is not taken', () => {
  expect(withFile('', 'a.png', 'PNG\0')).toBeUndefined()
  expect(withFile('', 'a.bin', '\ufffd')).toBeUndefined()
  expect(withFile('', 'a.txt', 'x'.repeat(MAX_FILE_CHARS + 1))).toBeUndefined()
  expect(withFile('', 'a.txt', '`'.repeat(MAX_FILE_CHARS))).toContain('`'.repeat(MAX_FILE_CHARS + 1))
})
