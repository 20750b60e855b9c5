import { expect, test } from 'vitest'
import { LatestWrite } from '../../../node/mesh/latest-write.ts'

test('what is asked for while a write is under way is one more write, of what counts then', async () => {
  let counts = 0
  const written: number[] = []
  let release = () => {}
  const file = new LatestWrite(async () => {
    written.push(counts)
    await new Promise<void>(resolve => {
      release = resolve
    })
  })
  const first = file.ask()
  await new Promise(setImmediate)
  const later = Array.from({ length: 50 }, (_, i) => {
    counts = i + 1
    return file.ask()
  })
  expect(file.last).toBe(later.at(-1))
  release()
  await first
  await new Promise(setImmediate)
  release()
  await Promise.all(later)
  expect(written).toEqual([0, 50])
})

test('a write that fails rejects for those that asked for it, and the next one is tried', async () => {
  let isFull = true
  const file = new LatestWrite(async () => {
    if (isFull) throw new Error('the disk is full')
  })
  await expect(file.ask()).rejects.toThrow('the disk is full')
  isFull = false
  await file.ask()
})
