import { Command } from 'commander'
import { expect, test } from 'vitest'
import { InputError } from '../../../node/cli/errors.ts'
import { addUpOptions, nodeInitOf, type UpOptions } from '../../../node/cli/up-options.ts'

/** What the node is started with. */
function startedWith(...words: string[]) {
  const command = addUpOptions(new Command('up').exitOverride()).parse(words, { from: 'user' })
  return nodeInitOf(command.opts<UpOptions>())
}

test('what is said reaches the node, and what is not is left to it', () => {
  expect(startedWith('--home', '/srv/e')).toEqual({ home: '/srv/e', mdns: true, peers: [] })
  const words = [
    ...[
      '--home',
      '/srv/e',
      '--name',
      'desk',
      '--port',
      '0',
      '--peer',
      '10.0.0.1:1',
      '--no-mdns',
      '--bundled'
    ],
    ...['--memory', '4GiB', '--prefix-cache', '1GiB', '--prefix-cache-disk', '2GiB', '--prefetch', '0'],
    ...['--threads', '2', '--device', 'auto', '--gpu-memory', '3GiB', '--verify', '0', '--keep-alive', '5m'],
    ...['--speculate', 'mtp', '--draft', 'small', '--exact', '--standby']
  ]
  expect(startedWith(...words)).toEqual({
    ...{ home: '/srv/e', name: 'desk', port: 0, peers: ['10.0.0.1:1'], mdns: false, bundled: true },
    ...{ memoryBytes: 2 ** 32, prefixCacheBytes: 2 ** 30, prefixCacheDiskBytes: 2 ** 31, prefetchBytes: 0 },
    ...{ threads: 2, device: 'auto', gpuMemoryBytes: 3 * 2 ** 30, verify: 0, keepAliveMs: 300_000 },
    ...{ speculate: 'mtp', draft: 'small', exact: true, standby: true }
  })
})

test('a disk for what memory has no room for is refused where no memory is for it', () => {
  expect(() => startedWith('--prefix-cache-disk', '1GiB')).toThrow(InputError)
  expect(() => startedWith('--prefix-cache-disk', '1GiB')).toThrow('--prefix-cache')
})
