import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { StoreError } from '../../models/errors.ts'
import { FileLock } from '../../models/store/lock.ts'

const HOURS_MS = 3_600_000

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'store-lock-'))
  // The time of day alone: timers go on.
  vi.useFakeTimers({ toFake: ['Date'] })
})
afterEach(async () => {
  vi.useRealTimers()
  await rm(folder, { recursive: true, force: true })
})

test('whoever waits for a lock is told in time that it is taken, though the time of day is set back', async () => {
  const path = join(folder, 'lock')
  const held = FileLock.tryAcquire(path)!
  const waiting = FileLock.acquire(path, 200)
  vi.setSystemTime(Date.now() - 5 * HOURS_MS)
  await expect(waiting).rejects.toThrow(StoreError)
  held.release()
})

test('and waits as long as it said, though the time of day is set forwards', async () => {
  const path = join(folder, 'lock')
  const held = FileLock.tryAcquire(path)!
  const waiting = FileLock.acquire(path, 600_000)
  vi.setSystemTime(Date.now() + 5 * HOURS_MS)
  setTimeout(() => held.release(), 150)
  const lock = await waiting
  lock.release()
})
