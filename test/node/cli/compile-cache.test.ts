import module from 'node:module'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { keepCompiled } from '../../../node/cli/compile-cache.mjs'

vi.mock('node:os', async original => ({ ...(await original<object>()), homedir: vi.fn(() => '/home/ann') }))

const enabled = vi.spyOn(module, 'enableCompileCache')
beforeEach(() => {
  enabled.mockReturnValue({ status: module.constants.compileCacheStatus.DISABLED })
  vi.stubEnv('NODE_COMPILE_CACHE', undefined)
  vi.stubEnv('XDG_CACHE_HOME', undefined)
  vi.stubEnv('LOCALAPPDATA', undefined)
})
afterEach(() => {
  vi.unstubAllEnvs()
  vi.resetAllMocks()
})

const systemError = () => {
  throw Object.assign(new Error('A system error occurred: uv_os_homedir returned ENOENT'), {
    code: 'ERR_SYSTEM_ERROR'
  })
}

test('what is compiled is kept in a folder of the user, for the processes that this one starts too', () => {
  keepCompiled()
  const [[dir]] = enabled.mock.calls as [[string]]
  expect(dir.startsWith(join('/home/ann'))).toBe(true)
  expect(process.env.NODE_COMPILE_CACHE).toBe(dir)
})

test('a user without a home has no cache, and the command goes on', () => {
  vi.mocked(homedir).mockImplementationOnce(systemError)
  keepCompiled()
  expect(enabled).not.toHaveBeenCalled()
  expect(process.env.NODE_COMPILE_CACHE).toBeUndefined()
})

test('a folder that the user names needs no home', () => {
  vi.stubEnv('NODE_COMPILE_CACHE', '/var/cache/compiled')
  vi.mocked(homedir).mockImplementationOnce(systemError)
  keepCompiled()
  expect(enabled).toHaveBeenCalledExactlyOnceWith('/var/cache/compiled')
})
