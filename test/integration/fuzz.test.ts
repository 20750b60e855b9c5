import { expect, test } from 'vitest'
import { deadlineMs } from '../fixtures/machine.ts'
import { fuzz } from '../fuzz/fuzz.ts'

test('mutated messages on all protocols end no node, leave nothing there, and change no answer of an honest peer', {
  timeout: deadlineMs(120_000)
}, async () => {
  const { sent, streams, answers, leases } = await fuzz({ messages: 5000, seed: 20_261_128 })
  for (const [protocol, count] of Object.entries(sent)) expect(count, protocol).toBeGreaterThan(0)
  expect(streams.ended).toBeGreaterThan(0)
  expect(streams.answered).toBeGreaterThan(0)
  expect(answers.total).toBeGreaterThan(0)
  expect(answers.different).toBe(0)
  expect(leases).toBe(0)
})
