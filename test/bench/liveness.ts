// How soon peers know that one of them died, hangs or is back: `node test/bench/liveness.ts`. Four nodes watch one in a
// process of its own, on loopback and without mDNS; the lab (test/lab/numbers.ts) unplugs hosts.

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Mesh, MeshEvents } from '../../node/mesh/index.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { Meshes } from '../node/mesh/fixtures.ts'

const WATCHERS = ['a', 'b', 'c', 'd']
const ROUNDS = 5

const { values } = commandOptions(
  import.meta.url,
  { options: { watched: { type: 'string', multiple: true } } },
  ['watched']
)
const meshes = new Meshes()
if (values.watched !== undefined) {
  await meshes.add('watched', { peers: values.watched })
} else {
  try {
    await measure(await meshes.connected(WATCHERS))
  } finally {
    await meshes.stop()
  }
}

async function measure(watchers: Mesh[]): Promise<void> {
  const killed: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const child = await watched(watchers)
    const gone = heard(watchers, 'disconnect')
    const startMs = performance.now()
    child.kill('SIGKILL')
    await gone
    killed.push(performance.now() - startMs)
  }
  report('a killed peer is known to all', killed, 1000)

  const child = await watched(watchers)
  const suspected: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const suspect = heard(watchers, 'suspect')
    const startMs = performance.now()
    child.kill('SIGSTOP')
    await suspect
    suspected.push(performance.now() - startMs)
    const recovered = heard(watchers, 'suspect')
    child.kill('SIGCONT')
    await recovered
    // So that it hangs at another moment of its heartbeat each time.
    await new Promise(resolve => setTimeout(resolve, 500 + 170 * round))
  }
  report('a hung peer is suspect', suspected, 4000)

  const gone = heard(watchers, 'disconnect')
  const stopMs = performance.now()
  child.kill('SIGSTOP')
  await gone
  report('a hung peer is given up', [performance.now() - stopMs], 16_000)
  const back = heard(watchers, 'connect')
  const wakeMs = performance.now()
  child.kill('SIGCONT')
  await back
  report('one that wakes up again is connected', [performance.now() - wakeMs], 12_000)
  child.kill('SIGKILL')
}

/** A node of its own process that every watcher is connected to. */
async function watched(watchers: Mesh[]): Promise<ChildProcess> {
  const met = heard(watchers, 'connect')
  const child = fork(
    fileURLToPath(import.meta.url),
    watchers[0]!.addresses.flatMap(address => ['--watched', address])
  )
  child.on('disconnect', () => child.kill('SIGKILL'))
  await met
  return child
}

/** Resolves when every watcher has emitted the event. */
async function heard(watchers: Mesh[], event: keyof MeshEvents): Promise<void> {
  await Promise.all(watchers.map(({ events }) => once(events, event)))
}

function report(what: string, times: number[], limitMs: number): void {
  const worst = Math.max(...times)
  process.stdout.write(
    `${what} after ${times.map(ms => ms.toFixed(0)).join(', ')} ms: ${(worst / limitMs).toFixed(2)} of the limit\n`
  )
}
