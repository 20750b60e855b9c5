import { expect, test } from 'vitest'
import { cpuQuota, sustainedMs } from '../../../models/runtime/cpu-quota.ts'

const reading = (files: Record<string, string>) => cpuQuota(path => files[path])

test('a group of the newer kind says its quota and its period', () => {
  const self = { '/proc/self/cgroup': '0::/app.slice/node\n' }
  expect(reading({ ...self, '/sys/fs/cgroup/app.slice/node/cpu.max': '50000 100000\n' })).toBe(0.5)
  expect(reading({ ...self, '/sys/fs/cgroup/app.slice/node/cpu.max': 'max 100000\n' })).toBeUndefined()
})

test('what is around it holds it too: the least counts', () => {
  const files = {
    '/proc/self/cgroup': '0::/outer/inner\n',
    '/sys/fs/cgroup/outer/inner/cpu.max': '200000 100000\n',
    '/sys/fs/cgroup/outer/cpu.max': '150000 100000\n'
  }
  expect(reading(files)).toBe(1.5)
})

test('one of the older kind is found under its controller, in a container as the outermost one', () => {
  const held = (group: string) => ({
    [`/sys/fs/cgroup/cpu${group}/cpu.cfs_quota_us`]: '1000\n',
    [`/sys/fs/cgroup/cpu${group}/cpu.cfs_period_us`]: '4000\n'
  })
  const own = '9:name=systemd:/\n1:cpu:/held\n0::/\n'
  expect(reading({ '/proc/self/cgroup': own, ...held('/held') })).toBe(0.25)
  expect(reading({ '/proc/self/cgroup': '3:cpu,cpuacct:/docker/1\n', ...held('') })).toBe(0.25)
  const free = { '/sys/fs/cgroup/cpu/held/cpu.cfs_quota_us': '-1\n' }
  expect(reading({ '/proc/self/cgroup': own, ...free })).toBeUndefined()
})

test('where there are no groups nothing is held', () => {
  expect(reading({})).toBeUndefined()
  expect(reading({ '/proc/self/cgroup': 'nonsense\n' })).toBeUndefined()
})

test('a run takes in the long run what a quota has for it, and never less than it took', () => {
  expect(sustainedMs(3, 3, undefined)).toBe(3)
  expect(sustainedMs(3, 3, 0.5)).toBe(6)
  // Others computed meanwhile.
  expect(sustainedMs(9, 3, 0.5)).toBe(9)
  expect(sustainedMs(3, 6, 4)).toBe(3)
})
