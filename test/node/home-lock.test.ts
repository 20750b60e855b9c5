import { type ChildProcess, execFileSync, fork } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { newApiToken, readApiFile, writeApiFile } from '../../node/api-file.ts'
import { isOpenToOthers, makeHome } from '../../node/home-folder.ts'
import { isHomeInUse, lockHome } from '../../node/home-lock.ts'
import { temporaryFolder } from '../fixtures/folder.ts'

vi.mock('node:fs/promises', async importOriginal => ({
  ...(await importOriginal<typeof import('node:fs/promises')>()),
  // As FAT and some network shares answer.
  link: () => Promise.reject(Object.assign(new Error('EPERM: no hard links'), { code: 'EPERM' }))
}))

const ROUNDS = 25
const racer = new URL('./home-lock-racer.ts', import.meta.url).pathname

describe('the lock of a home', () => {
  test('one node has it, and gives it back, on a file system without hard links too', async () => {
    await using folder = await temporaryFolder()
    const unlock = await lockHome(folder.path)
    expect(isHomeInUse(folder.path)).toBe(true)
    expect(await readFile(join(folder.path, 'node.pid'), 'utf8')).toBe(String(process.pid))
    await expect(lockHome(folder.path)).rejects.toMatchObject({
      name: 'HomeInUseError',
      message: expect.stringContaining(`process ${process.pid}`)
    })
    await unlock()
    expect(isHomeInUse(folder.path)).toBe(false)
    expect(await readdir(folder.path)).toEqual(['node.lock'])
    await (await lockHome(folder.path))()
  })

  test.each([
    ['this process, as in a container', String(process.pid)],
    ['another process that runs, as after a reboot', String(process.ppid)],
    ['nothing, as a power cut leaves it', '\0\0\0\0']
  ])('what a killed node left behind stands in no way: it names %s', async (_, left) => {
    await using folder = await temporaryFolder()
    await writeFile(join(folder.path, 'node.pid'), left)
    await (await lockHome(folder.path))()
  })

  test('it ends with the process that holds it, killed by SIGKILL', async () => {
    await using folder = await temporaryFolder()
    const holder = fork(racer)
    await next(holder)
    holder.send({ home: folder.path, atMs: 0 })
    expect(await next(holder)).toBe('won')
    await expect(lockHome(folder.path)).rejects.toThrow(`process ${holder.pid}`)
    const exited = once(holder, 'exit')
    holder.kill('SIGKILL')
    await exited
    await (await lockHome(folder.path))()
  })

  test('of two that start at once over what a killed one left behind one gets the home', async () => {
    await using folder = await temporaryFolder()
    const racers = [racer, racer].map(path => fork(path))
    try {
      await Promise.all(racers.map(next))
      for (let round = 0; round < ROUNDS; round++) {
        const home = join(folder.path, String(round))
        await mkdir(home)
        await writeFile(join(home, 'node.pid'), String(process.pid))
        const outcomes = Promise.all(racers.map(next))
        for (const child of racers) child.send({ home, atMs: Date.now() + 2 })
        expect((await outcomes).sort(), `round ${round}`).toEqual([expect.stringMatching(/in use/), 'won'])
      }
    } finally {
      for (const child of racers) child.kill()
    }
  })

  test('where no node runs none is asked: the port that is recorded may be another one by now', async () => {
    await using folder = await temporaryFolder()
    const unlock = await lockHome(folder.path)
    const access = { api: 'http://127.0.0.1:7447', token: newApiToken() }
    await writeApiFile(folder.path, access)
    expect(await readApiFile(folder.path)).toEqual(access)
    for (const name of await readdir(folder.path))
      expect((await stat(join(folder.path, name))).mode & 0o077, name).toBe(0)
    await unlock()
    expect(await readApiFile(folder.path)).toBeUndefined()
  })
})

describe('a home', () => {
  test.runIf(process.platform !== 'win32')('that others may look into is closed to them', async () => {
    await using folder = await temporaryFolder()
    for (const left of [undefined, 'mesh.json', 'store', 'identity.key.0f0e']) {
      if (left !== undefined) await writeFile(join(folder.path, left), '')
      await chmod(folder.path, 0o755)
      await makeHome(folder.path)
      expect((await stat(folder.path)).mode & 0o777, left ?? 'empty').toBe(0o700)
    }
    expect(await isOpenToOthers(folder.path)).toBe(false)
  })

  test.runIf(process.platform !== 'win32')(
    'that holds other things, too, stays open, and is said to be',
    async () => {
      await using folder = await temporaryFolder()
      await writeFile(join(folder.path, 'letter.txt'), '')
      await chmod(folder.path, 0o755)
      await makeHome(folder.path)
      expect((await stat(folder.path)).mode & 0o777).toBe(0o755)
      expect(await isOpenToOthers(folder.path)).toBe(true)
    }
  )

  test('in the place of a file is named', async () => {
    await using folder = await temporaryFolder()
    const path = join(folder.path, 'file')
    await writeFile(path, '')
    await expect(lockHome(join(path, 'home'))).rejects.toMatchObject({
      code: 'home_unwritable',
      message: expect.stringContaining(path)
    })
  })

  test.runIf(mayMount()).each([
    ['read-only', 'mount -o remount,ro "$0"', /cannot write .*: the file system is read-only/g],
    ['full', 'head -c 1M /dev/zero > "$0/filler"', /cannot write .*: the disk is full/g]
  ])('on a disk that is %s says so, and leaves nothing', async (_, spoil, said) => {
    await using folder = await temporaryFolder()
    const program = `import { lockHome } from ${JSON.stringify(new URL('../../node/home-lock.ts', import.meta.url).href)}
      for (const home of [process.argv[1], process.argv[1] + '/deep/er'])
        await lockHome(home).then(() => console.log('locked'), error => console.log(error.message))`
    const script = `mount -t tmpfs -o size=64k none "$0"; ${spoil} 2> /dev/null; "$1" --input-type=module -e "$2" "$0"; ls "$0"`
    const output = inMountNamespace(script, folder.path, process.execPath, program)
    expect(output.match(said)).toHaveLength(2)
    expect(output).not.toContain('node.pid\n')
  })
})

async function next(child: ChildProcess): Promise<unknown> {
  return (await once(child, 'message'))[0]
}

function inMountNamespace(script: string, ...args: string[]): string {
  const command = ['--user', '--map-root-user', '--mount', 'sh', '-c', script, ...args]
  return execFileSync('unshare', command, { encoding: 'utf8', stdio: 'pipe' })
}

function mayMount(): boolean {
  try {
    inMountNamespace('mount -t tmpfs none /mnt')
    return true
  } catch {
    // Not Linux, or not permitted here: these are skipped.
    return false
  }
}
