import { afterAll, expect, test } from 'vitest'
import { Grammars } from '../../../models/grammar/grammars.ts'
import { allowsSome } from '../../../models/runtime/token-mask.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { VOCABULARY } from '../../fixtures/walk-grammar.ts'

const deadlines = { startMs: deadlineMs(30_000), compileMs: deadlineMs(5000), maskMs: deadlineMs(5000) }
const grammars = new Grammars({ deadlines })
afterAll(() => grammars.close())

test('what leads nowhere ends its own answer, before a mask that allows nothing is sent to anybody', async () => {
  const { signal } = new AbortController()
  const open = async () => {
    const answer = await grammars.open({ kind: 'grammar', text: 'root ::= root "a"' }, VOCABULARY, { signal })
    try {
      return await answer.maskAfter([])
    } finally {
      answer.close()
    }
  }
  await expect(open()).rejects.toMatchObject({ name: 'GrammarError' })
})

test('bits behind the vocabulary allow nothing', () => {
  const none = Uint8Array.of(0, 0b1111_0000)
  expect([8, 11, 12, 13, 16].map(size => allowsSome(none, size))).toEqual([false, false, false, true, true])
  expect(allowsSome(Uint8Array.of(4, 0), 9)).toBe(true)
  expect(allowsSome(new Uint8Array(2), 16)).toBe(false)
})
