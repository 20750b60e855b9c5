import { expect, test } from 'vitest'
import { monotone } from '../../../models/runtime/monotone.ts'

test('a size never takes longer than a larger one', () => {
  expect(monotone({ 1: 12.9, 2: 5.3, 16: 30 })).toEqual({ 1: 5.3, 2: 5.3, 16: 30 })
  expect(monotone({ 1: 1, 2: 9, 4: 8, 16: 7 })).toEqual({ 1: 1, 2: 7, 4: 7, 16: 7 })
  expect(monotone({ 1: 1, 2: 2 })).toEqual({ 1: 1, 2: 2 })
  // Of sizes as numbers: 512 comes behind 32.
  expect(monotone({ 512: 4, 32: 5 })).toEqual({ 512: 4, 32: 4 })
})
