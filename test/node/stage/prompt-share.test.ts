import { expect, test } from 'vitest'
import { PromptShare } from '../../../node/stage/prompt-share.ts'

/** What a step of so many rows takes on a processor, in ms: a first one, and so much for each more. */
const stepMs = (rows: number, rowMs: number) => 20 + rowMs * rows

function played(answers: number, rowMs: number): PromptShare {
  const share = new PromptShare()
  share.answered(answers, stepMs(answers, rowMs))
  for (let i = 0; i < 30; i++) {
    const beside = Math.min(32, share.beside(answers))
    share.joined(answers, beside, stepMs(answers + beside, rowMs))
    share.computed(share.between, stepMs(share.between, rowMs))
  }
  return share
}

test('a step takes along what makes it less than half as long again', () => {
  const share = played(4, 8)
  const beside = share.beside(4)
  expect(beside).toBe(2)
  expect(stepMs(4 + beside, 8) / stepMs(4, 8)).toBeLessThan(1.5)
  expect(played(8, 8).beside(8)).toBeGreaterThan(beside)
})

test('a whole chunk goes along where rows cost nearly nothing', () => {
  expect(played(4, 0.1).beside(4)).toBeGreaterThan(32)
  expect(played(4, 0).beside(4)).toBe(Infinity)
})

test('two tokens are the least, however slow a device is with several', () => {
  const share = played(1, 50)
  expect([share.beside(1), share.between]).toEqual([2, 2])
})

test('what a step of other rows takes is told by one of fewer, before there was one', () => {
  const share = new PromptShare()
  expect([share.stepMs(3), share.beside(3)]).toEqual([undefined, 4])
  share.answered(2, 30)
  share.answered(4, 50)
  expect([share.stepMs(1), share.stepMs(3), share.stepMs(9)]).toEqual([undefined, 30, 50])
})
