import { spawnSync } from 'node:child_process'
import { setFlagsFromString } from 'node:v8'
import { beforeEach, expect, test, vi } from 'vitest'

vi.mock('node:v8', () => ({ setFlagsFromString: vi.fn() }))

beforeEach(() => {
  vi.resetModules()
  vi.resetAllMocks()
  vi.unstubAllGlobals()
})

test('this Node knows the flag that it is given', async () => {
  await import('../../../node/cli/generic-wrappers.ts')
  const [[flag]] = vi.mocked(setFlagsFromString).mock.calls as [[string]]
  const { status, stderr } = spawnSync(process.execPath, [flag, '--version'], { encoding: 'utf8' })
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
})

test('another V8 is given none', async () => {
  vi.stubGlobal('process', { ...process, versions: { ...process.versions, v8: '14.6.1' } })
  await import('../../../node/cli/generic-wrappers.ts')
  expect(setFlagsFromString).not.toHaveBeenCalled()
})
