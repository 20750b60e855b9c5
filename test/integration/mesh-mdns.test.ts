import { execFile, execFileSync } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { deadlineMs } from '../fixtures/machine.ts'

const run = promisify(execFile)
const nodes = new URL('./mesh-mdns-nodes.ts', import.meta.url).pathname

test.skipIf(!namespacesWork())(
  'three nodes find each other by mDNS, a stranger nobody, a guest who invited it and one the only mesh that accepts, a home and its copy each other',
  async () => {
    const script = `ip link set lo up && exec '${process.execPath}' '${nodes}'`
    const { stdout } = await run('unshare', ['--net', 'sh', '-c', script], { timeout: deadlineMs(25_000) })
    const { connectedMs, names, joined, paired, copies } = JSON.parse(stdout) as {
      connectedMs: number
      names: string[][]
      joined: string
      paired: [before: number, opened: number, outcome: string]
      copies: string[][]
    }
    expect(names).toEqual([['b', 'c'], ['a', 'c'], ['a', 'b'], []])
    expect(joined).toBe('joined')
    expect(paired).toEqual([0, 1, 'joined'])
    expect(copies).toEqual([['attic'], ['a']])
    process.stderr.write(
      `three nodes connected and introduced ${connectedMs.toFixed(0)} ms after the last start\n`
    )
  }
)

function namespacesWork(): boolean {
  try {
    execFileSync('unshare', ['--net', 'ip', 'link', 'set', 'lo', 'up'], { stdio: 'ignore' })
    return true
  } catch {
    process.stderr.write('skipped: this user may not make network namespaces\n')
    return false
  }
}
