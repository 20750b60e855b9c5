import { expect, test } from 'vitest'
import { faster } from '../../../node/profile/faster.ts'

const times = (decodeMs: number, prefillMsPerToken = decodeMs / 4) => ({ decodeMs, prefillMsPerToken })

test('each figure of each kind of layer is the shorter one', () => {
  const disturbed = { decoder: times(9, 1), head: times(3), embedding: times(0.1) }
  const settled = { decoder: times(4, 2), head: times(5) }
  expect(faster(disturbed, settled)).toEqual({
    decoder: times(4, 1),
    head: times(3),
    embedding: times(0.1)
  })
})

test('a batch takes no longer than a larger one: its timing was disturbed twice', () => {
  const one = { decoder: { ...times(2), decodeMsByBatch: { 1: 2, 2: 9, 16: 7 } } }
  const other = { decoder: { ...times(2), decodeMsByBatch: { 1: 3, 2: 8, 16: 6 } } }
  expect(faster(one, other).decoder!.decodeMsByBatch).toEqual({ 1: 2, 2: 6, 16: 6 })
  expect(faster(one, { decoder: times(2) }).decoder!.decodeMsByBatch).toEqual({ 1: 2, 2: 9, 16: 7 })
})

test('no context takes longer than a longer one', () => {
  const one = { decoder: { ...times(2), decodeMsByContext: { 32: 2, 1024: 9, 8192: 7 } } }
  const other = {
    decoder: {
      ...times(2),
      decodeMsByContext: { 32: 3, 1024: 8, 8192: 12 },
      prefillMsPerTokenByContext: { 16: 1, 1040: 2 }
    }
  }
  expect(faster(one, other).decoder).toMatchObject({
    decodeMsByContext: { 32: 2, 1024: 7, 8192: 7 },
    prefillMsPerTokenByContext: { 16: 1, 1040: 2 }
  })
})
