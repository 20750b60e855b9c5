import { execFile, execFileSync } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { deadlineMs } from '../fixtures/machine.ts'

const nodes = new URL('./mesh-ipv6-nodes.ts', import.meta.url).pathname
const CABLE =
  'ip link set lo up && ip link add va type veth peer name vb && ip link set vb up && ' +
  'ip addr add fd00:77::1/64 dev va nodad && ip link set va up'

test.skipIf(!ipv6Works())('a node listens on unique local IPv6 addresses and is dialled there', async () => {
  const script = `${CABLE} && exec '${process.execPath}' '${nodes}'`
  const { stdout } = await promisify(execFile)('unshare', ['--net', 'sh', '-c', script], {
    timeout: deadlineMs(25_000)
  })
  const { told, reachedAt } = JSON.parse(stdout) as { told: string[]; reachedAt: string[] }
  expect(told).toEqual([expect.stringMatching(/^\/ip6\/fd00:77::1\/tcp\/\d+$/)])
  expect(reachedAt).toEqual(told)
})

function ipv6Works(): boolean {
  try {
    execFileSync('unshare', ['--net', 'sh', '-c', CABLE], { stdio: 'ignore' })
    return true
  } catch {
    process.stderr.write('skipped: no network namespaces, or none with IPv6\n')
    return false
  }
}
