import { execFile, execFileSync } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { deadlineMs } from '../fixtures/machine.ts'

const nodes = new URL('./mesh-strangers-nodes.ts', import.meta.url).pathname
/** A network of three devices; the stranger's nine addresses are in the same subnet, and no interface that mDNS uses has them. */
const NETWORK = [
  'ip link set lo up',
  'ip link add lan type veth peer name far',
  'ip link set far up',
  ...[1, 2, 3].map(i => `ip addr add 10.77.0.${i}/24 dev lan`),
  ...Array.from({ length: 9 }, (_, i) => `ip addr add 10.77.0.${i + 60}/32 dev lo`),
  'ip link set lan multicast on up'
].join(' && ')
const permitted = namespacesWork()

async function play(part: 'spoofed' | 'crowded' | 'babbled'): Promise<unknown> {
  const script = `${NETWORK} && exec '${process.execPath}' '${nodes}' ${part}`
  const { stdout } = await promisify(execFile)('unshare', ['--net', 'sh', '-c', script], {
    timeout: deadlineMs(20_000)
  })
  return JSON.parse(stdout)
}

test.skipIf(!permitted)(
  'a stranger that announces addresses of its own for members neither parts them nor is remembered',
  { timeout: deadlineMs(30_000) },
  async () => {
    const { told, known, backMs, remembered, notices } = (await play('spoofed')) as {
      told: { packets: number; dials: number }
      known: string[]
      backMs: number
      remembered: Record<string, string[]>[]
      notices: string[]
    }
    expect(told.packets).toBeGreaterThan(50)
    expect(told.dials).toBeGreaterThanOrEqual(8)
    expect(remembered.map(contacts => Object.keys(contacts))).toEqual([[known[1]], [known[0]]])
    const addresses = remembered.flatMap(contacts => Object.values(contacts).flat())
    expect(addresses.filter(address => !/^\/ip4\/10\.77\.0\.[12]\/tcp\/\d+$/.test(address))).toEqual([])
    expect(notices.filter(text => /another (mesh|secret)/.test(text))).toEqual([])
    process.stderr.write(`a member was back ${backMs.toFixed(0)} ms after its restart\n`)
  }
)

test.skipIf(!permitted)(
  'a device joins a node to which a stranger with nine addresses keeps opening silent connections',
  { timeout: deadlineMs(30_000) },
  async () => {
    const { opened, ended, joinedMs } = (await play('crowded')) as {
      opened: number
      ended: number
      joinedMs: number
    }
    expect(opened).toBeGreaterThan(200)
    expect(ended).toBeGreaterThan(100)
    process.stderr.write(`a device joined within ${joinedMs.toFixed(0)} ms\n`)
  }
)

test.skipIf(!permitted)(
  'packets that are nearly mDNS harm nobody, and members find each other behind them',
  { timeout: deadlineMs(30_000) },
  async () => {
    expect(await play('babbled')).toEqual({
      sent: 3000,
      known: [
        ['b', 'c'],
        ['a', 'c'],
        ['a', 'b']
      ]
    })
  }
)

function namespacesWork(): boolean {
  try {
    execFileSync('unshare', ['--net', 'sh', '-c', NETWORK], { stdio: 'ignore' })
    return true
  } catch {
    process.stderr.write('skipped: this user may not make network namespaces\n')
    return false
  }
}
