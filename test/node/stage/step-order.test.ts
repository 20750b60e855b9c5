import { expect, test } from 'vitest'
import { StepOrder } from '../../../node/stage/step-order.ts'

test('steps of an epoch follow each other; a later one may go back, and none may leave a gap', () => {
  const order = new StepOrder(3)
  order.enter({ position: 3 }, 2)
  expect(() => order.check({ position: 5 })).not.toThrow()
  expect(() => order.check({ position: 4 })).toThrow('starts at token 4, the session is at 5')
  expect(() => order.check({ position: 6, epoch: 1 })).toThrow('starts at token 6')
  order.check({ position: 4, epoch: 2 })
  order.enter({ position: 4, epoch: 2 }, 1)
  expect(() => order.check({ position: 4, epoch: 2 })).toThrow('the session is at 5')
  expect([0, 1, 2].map(epoch => order.isStale({ epoch }))).toEqual([true, true, false])
})

test('what is dropped stays dropped, whatever is said later', () => {
  const order = new StepOrder(0)
  order.dropBefore(3)
  order.dropBefore(1)
  expect([2, 3].map(epoch => order.isStale({ epoch }))).toEqual([true, false])
  order.check({ position: 0, epoch: 4 })
})
