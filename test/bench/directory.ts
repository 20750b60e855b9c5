// What eight idle nodes say to each other, and how soon a change is known to all: `node test/bench/directory.ts`. Runs
// in a network namespace of its own, whose loopback counts every byte with the headers of TCP, IP and Ethernet.

import { spawnSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { commandOptions } from '../fixtures/command-options.ts'
import { Meshes } from '../node/mesh/fixtures.ts'

const NODES = 8
const SETTLE_MS = 10_000
const IDLE_SECONDS = 30
const CHANGES = 60
const LIMIT_BYTES_PER_SECOND = 3000

const { values } = commandOptions(
  import.meta.url,
  { options: { inside: { type: 'boolean', default: false } } },
  ['inside']
)
if (values.inside) {
  await measure()
} else {
  const inside = `ip link set lo up && exec "${process.execPath}" "${fileURLToPath(import.meta.url)}" --inside`
  const { status } = spawnSync('unshare', ['-rn', 'sh', '-c', inside], { stdio: 'inherit' })
  if (status !== 0) process.stdout.write('skipped: network namespaces are not permitted here\n')
}

async function measure(): Promise<void> {
  const meshes = new Meshes()
  const names = Array.from({ length: NODES }, (_, i) => `node ${i}`)
  const nodes = await meshes.connected(names)
  try {
    // Links are measured first; that is not idle.
    while (nodes.some(node => node.links.length < NODES * (NODES - 1))) await delay(100)
    await delay(SETTLE_MS)
    const seconds: number[] = []
    for (let second = 0; second < IDLE_SECONDS; second++) {
      const startBytes = await loopbackBytes()
      await delay(1000)
      seconds.push(((await loopbackBytes()) - startBytes) / NODES)
    }
    // The middle one: on a busy machine estimates of links do not agree, and are soon made again.
    const idle = seconds.sort((a, b) => a - b)[IDLE_SECONDS / 2]!
    const share = (idle / LIMIT_BYTES_PER_SECOND).toFixed(2)
    process.stdout.write(
      `idle: ${idle.toFixed(0)} bytes/s sent by each of ${NODES} nodes, ${share} of the limit\n`
    )

    const times: number[] = []
    const bytes: number[] = []
    for (let change = 1; change <= CHANGES; change++) {
      const node = nodes[change % NODES]!
      const others = nodes.filter(other => other !== node)
      const beforeBytes = await loopbackBytes()
      const changedMs = performance.now()
      node.update({ memory: { budgetBytes: 1000, freeBytes: change } })
      const knows = () =>
        others.every(other =>
          other.peers.some(
            ({ record }) => record.peerId === node.peerId && record.memory.freeBytes === change
          )
        )
      while (!knows()) await new Promise(setImmediate)
      times.push(performance.now() - changedMs)
      await delay(200)
      bytes.push(
        (await loopbackBytes()) - beforeBytes - (idle * NODES * (performance.now() - changedMs)) / 1000
      )
    }
    const perChange = bytes.sort((a, b) => a - b)[CHANGES / 2]!
    times.sort((a, b) => a - b)
    const at = (share: number) => `${times[Math.floor(share * (CHANGES - 1))]!.toFixed(1)} ms`
    process.stdout.write(
      `a change is known to all after ${at(0.5)} (95th percentile ${at(0.95)}) and takes ${(perChange / 1000).toFixed(1)} kB in all\n`
    )
  } finally {
    await meshes.stop()
  }
}

async function loopbackBytes(): Promise<number> {
  const devices = await readFile('/proc/self/net/dev', 'utf8')
  return Number(/lo:\s*(\d+)/.exec(devices)![1])
}
