import { expect, test } from 'vitest'
import { faster } from '../../../node/profile/faster.ts'

const times = (decodeMs: number) => ({ decodeMs, prefillMsPerToken: decodeMs / 4 })

test('each kind of layer keeps its faster timing, whole', () => {
  const disturbed = { decoder: times(9), head: times(3), embedding: times(0.1) }
  const settled = { decoder: times(4), head: times(5) }
  expect(faster(disturbed, settled)).toEqual({ decoder: times(4), head: times(3), embedding: times(0.1) })
})
