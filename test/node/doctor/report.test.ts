import { homedir, hostname } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import type { Finding } from '../../../node/doctor/index.ts'
import { redacted } from '../../../node/doctor/redacted.ts'
import { reportOf } from '../../../node/doctor/report.ts'
import { GpuFile } from '../../../node/processor/gpu-file.ts'
import { gpuPresence } from '../../../node/processor/gpu-presence.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'

afterEach(() => void vi.unstubAllEnvs())

const PRIVATE = { paths: ['/home/anna/.edgeshard', '/home/anna'], names: ['annas-desk', 'anna', 'x'] }

test.each([
  ['cannot open /home/anna/.edgeshard/store/a b', 'cannot open <path> b'],
  ['at C:\\Users\\anna\\icd.json', 'at <path>'],
  [`${peerIdOf('desk')} said no`, '<peer> said no'],
  ['192.168.1.7:7447 and fe80::1%eth0', '<address> and <address>'],
  ['/ip4/10.0.0.1/tcp/5 and http://desk.local:7447/v1', '<address> and <address>'],
  ['Annas-Desk of anna', '<name> of <name>'],
  ['key sk-abcdefghijklmnopqrstuvwxyz', 'key <token>'],
  [`secret ${'ab01'.repeat(16)}`, 'secret <token>']
])('of %j a report says %j', (text, expected) => {
  expect(redacted(text, PRIVATE)).toBe(expected)
})

test('what matters is left: signals, drivers, versions, figures', () => {
  for (const text of [
    'Vulkan: radeon_icd.x86_64.json, nvidia_icd.json',
    'its process ended (SIGSEGV)',
    'it said nothing for 120 s',
    'ONNX Runtime 1.23.2 with cpu, webgpu on Node v24.1.0',
    'the GPU is 1200.0 times slower for tokens, and has to be 1.2 times faster for both',
    '3.5 of 7.8 GiB are available'
  ]) {
    expect(redacted(text, PRIVATE)).toBe(text)
  }
})

test('a report has the driver, its crashes and what trying it found, and nothing of whose device it is', async () => {
  vi.stubEnv('VK_ICD_FILENAMES', '/opt/drivers/card.json')
  vi.stubEnv('VK_DRIVER_FILES', '')
  vi.stubEnv('VK_ADD_DRIVER_FILES', '')
  await using folder = await temporaryFolder()
  const presence = await gpuPresence()
  const driver = presence.possible ? presence.driver : ''
  const reason = `SIGSEGV in ${join(homedir(), 'lib.so')} of ${peerIdOf('desk')}`
  const verdict = { use: 'cpu', reason: 'the GPU is 2.0 times slower for tokens' } as const
  const time = { kind: 'decoder', work: 'decode', cpuMs: 1, gpuMs: 2 }
  const probe = { key: 'k', measuredAtMs: 5, model: 'my diary', times: [time], verdict }
  await new GpuFile(folder.path).write({ driver, crashes: [{ atMs: 0, reason }], probe })
  const findings: Finding[] = [
    { level: 'problem', check: 'node', found: `${hostname()} does not answer at 10.1.2.3` },
    { level: 'ok', check: 'disk', found: `5 GiB free for ${folder.path}` }
  ]
  const report = await reportOf(folder.path, findings)
  if (presence.possible) {
    expect(report.gpu).toEqual({
      driver,
      crashes: [{ at: '1970-01-01T00:00:00.000Z', reason: 'SIGSEGV in <path> of <peer>' }],
      probe: { measuredAtMs: 5, times: [time], verdict }
    })
  }
  expect(report.findings).toEqual([
    { level: 'problem', check: 'node', found: 'left out of reports' },
    { level: 'ok', check: 'disk', found: '5 GiB free for <path>' }
  ])
  const text = JSON.stringify(report)
  for (const word of [homedir(), folder.path, peerIdOf('desk'), '10.1.2.3', 'my diary']) {
    expect(text).not.toContain(word)
  }
})
