/**
 * What a mesh of many devices costs one of them, for test/bench/scale.ts: a whole node, the real command in a process of its own, whose
 * neighbours are hosts in this one that speak for all the others. Runs in a network namespace of its own.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { runningNode } from '../../node/cli/api-client.ts'
import { admitHome } from '../fixtures/admitted.ts'
import { LabNode } from '../lab/lab-node.ts'
import { SECRET } from '../node/mesh/fixtures.ts'
import { Crowd } from './scale-crowd.ts'

const CLI = new URL('../../node/cli/edgeshard.mjs', import.meta.url).pathname
/** Its links are measured, and the processor timed for the bundled model, for the last time after 75 s, before it counts as idle. */
const SETTLE_MS = 100_000
const WHOLE_LIMIT_MS = 120_000
const POLL_MS = 250
/** Linux counts a process's time in hundredths of a second. */
const MS_PER_TICK = 10

export interface OneOfMany {
  count: number
  /** Until it knew all the others. */
  wholeMs: number
  neighbours: number
  /** What it took of processors until it was idle. */
  startCpuMs: number
  /** Share of a core, and bytes a second that it sent, while it was idle. */
  share: number
  bytesPerSecond: number
}

/**
 * Starts a node in a mesh of `count`, and watches it for `idleMs` once it has settled.
 *
 * @param profileDir - where its processor profile is written
 */
export async function oneOf(
  count: number,
  { idleMs, profileDir }: { idleMs: number; profileDir?: string | undefined }
): Promise<OneOfMany> {
  const home = await mkdtemp(join(tmpdir(), 'edgeshard-scale-'))
  await admitHome(home, SECRET)
  await using crowd = await Crowd.start(count - 1)
  const profile = profileDir === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileDir}`]
  const options = ['--home', home, '--name', 'measured', '--memory', '1GiB', '--no-mdns']
  const args = [...profile, CLI, 'up', '--json', ...options, '--port', '0', '--api', '127.0.0.1:0']
  const startMs = performance.now()
  const node = new LabNode('loopback', process.execPath, args)
  try {
    const { addresses } = await node.ready()
    await crowd.join(addresses![0]!)
    const api = await runningNode({ home })
    const deadline = AbortSignal.timeout(WHOLE_LIMIT_MS)
    const known = async () => (await api.mesh()).peers.filter(({ state }) => state === 'connected').length
    while ((await known()) < count - 1) await delay(POLL_MS, undefined, { signal: deadline })
    const wholeMs = performance.now() - startMs
    await delay(SETTLE_MS)
    const startCpuMs = await cpuMsOf(node.pid)
    const startBytes = await loopbackBytes()
    const idleStartMs = performance.now()
    await delay(idleMs)
    const tookMs = performance.now() - idleStartMs
    const share = ((await cpuMsOf(node.pid)) - startCpuMs) / tookMs
    // Loopback counts what goes each way; half of it is the node's.
    const bytesPerSecond = ((await loopbackBytes()) - startBytes) / 2 / (tookMs / 1000)
    return { count, wholeMs, neighbours: crowd.neighbours.length, startCpuMs, share, bytesPerSecond }
  } finally {
    await node.stop()
    await rm(home, { recursive: true, force: true })
  }
}

/** Processor time that a process and its threads have taken. */
async function cpuMsOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
  // The name, in brackets, may hold spaces; user and system time are the twelfth and thirteenth field behind it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK
}

async function loopbackBytes(): Promise<number> {
  const devices = await readFile('/proc/net/dev', 'utf8')
  return Number(/lo:\s*(\d+)/.exec(devices)![1])
}
