import { expect, test } from 'vitest'
import { paceText } from '../../../node/cli/pace.ts'
import { withBar } from '../../../node/cli/progress.ts'

const MIB = 2 ** 20

test('how far it is comes with the rate of bytes, and with the time that is left of anything', () => {
  expect(paceText({ done: 12 * MIB, total: 40 * MIB }, 2)).toBe('12.0 MiB of 40.0 MiB, 6.0 MiB/s, 5 s left')
  expect(paceText({ done: 3, total: 10 }, 1.5, 'layers')).toBe('3 of 10 layers, 4 s left')
})

test('what was there before it began is no pace', () => {
  expect(paceText({ done: 30 * MIB, total: 40 * MIB, from: 20 * MIB }, 5)).toBe(
    '30.0 MiB of 40.0 MiB, 2.0 MiB/s, 5 s left'
  )
  expect(paceText({ done: 20, total: 40, from: 20 }, 5, 'layers')).toBe('20 of 40 layers')
  expect(paceText({ done: 1, total: 40 }, 0.1, 'layers')).toBe('1 of 40 layers')
})

test('a bar takes what room the figures leave, and none where they leave too little', () => {
  expect(withBar('x: 1 of 4', 0.25, 24)).toBe('x: 1 of 4 [===---------]')
  expect(withBar('x: 1 of 4', 2, 400)).toBe(`x: 1 of 4 [${'='.repeat(40)}]`)
  for (const columns of [40, 80])
    expect(withBar('pull owner/name: 12.0 MiB of 40.0 MiB', 0.3, columns).length).toBeLessThanOrEqual(columns)
  expect(withBar('pull owner/name: 12.0 MiB of 40.0 MiB', 0.3, 40)).not.toContain('[')
})
