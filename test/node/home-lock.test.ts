import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { lockHome } from '../../node/home-lock.ts'
import { temporaryFolder } from '../fixtures/folder.ts'

/** Above every process id that a system gives. */
const DEAD = 2 ** 30
const ROUNDS = 100
const racer = new URL('./home-lock-racer.ts', import.meta.url).pathname

test('a home has one node; what a killed one left behind is taken over, and given back', async () => {
  await using folder = await temporaryFolder()
  await writeFile(join(folder.path, 'node.pid'), String(DEAD))
  const unlock = await lockHome(folder.path)
  expect(await readFile(join(folder.path, 'node.pid'), 'utf8')).toBe(String(process.pid))
  await expect(lockHome(folder.path)).rejects.toMatchObject({ name: 'HomeInUseError' })
  await unlock()
  expect(await readdir(folder.path)).toEqual([])
})

test('a lock that says nothing, as a power cut leaves it, is taken over', async () => {
  await using folder = await temporaryFolder()
  await writeFile(join(folder.path, 'node.pid'), Buffer.alloc(4))
  await (await lockHome(folder.path))()
  expect(await readdir(folder.path)).toEqual([])
})

test('of two that start at once over what a killed one left behind one gets the home', async () => {
  await using folder = await temporaryFolder()
  const racers = [racer, racer].map(path => fork(path))
  try {
    await Promise.all(racers.map(next))
    for (let round = 0; round < ROUNDS; round++) {
      const home = join(folder.path, String(round))
      await mkdir(home)
      await writeFile(join(home, 'node.pid'), String(DEAD))
      const won = Promise.all(racers.map(next))
      for (const child of racers) child.send({ home, atMs: Date.now() + 2 })
      expect(await won, `round ${round}`).toContain(true)
      expect(await won, `round ${round}`).toContain(false)
    }
  } finally {
    for (const child of racers) child.kill()
  }
})

async function next(child: ChildProcess): Promise<unknown> {
  return (await once(child, 'message'))[0]
}
