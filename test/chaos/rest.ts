import { setTimeout as delay } from 'node:timers/promises'
import type { MeshState } from '../../node/api.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { meshOf, metricsOf } from './client.ts'
import type { ChaosMesh, Device } from './mesh.ts'
import { type ProcessState, processState } from './process-state.ts'

/** A session is closed everywhere within a second, and a lease ends with its stream; the rest is a busy machine. */
const REST_TIMEOUT_MS = deadlineMs(15_000)

/**
 * What a process may have more than at the start: other stages than then, each with a worker thread and its descriptors,
 * what allocators keep, and the tokenizer's process with its pipes, which the first prompt starts. A process that was
 * new then grows by up to 160 MiB as it computes its first stages and plans its first answers, for V8 collects what is
 * left behind only when it needs the room. What leaks with every answer is more than this after some.
 */
const TOLERANCE: ProcessState = { rssBytes: 256 << 20, threads: 8, descriptors: 20, children: 1 }

/** What every device had when nothing had happened yet; one that was started anew is noted anew. */
export class Baseline {
  readonly #states = new Map<number, ProcessState>()

  /** Notes the devices that are not known yet. */
  note({ devices }: ChaosMesh): void {
    for (const { pid } of devices) if (!this.#states.has(pid)) this.#states.set(pid, processState(pid))
  }

  of({ pid }: Device): ProcessState | undefined {
    return this.#states.get(pid)
  }

  /** What a device has now against what it had, in a line. */
  change(device: Device): string {
    const [before, now] = [this.of(device)!, processState(device.pid)]
    const mib = ({ rssBytes }: ProcessState) => `${Math.round(rssBytes / 2 ** 20)} MiB`
    return `${mib(before)} -> ${mib(now)}, threads ${before.threads} -> ${now.threads}, descriptors ${before.descriptors} -> ${now.descriptors}`
  }
}

/**
 * Waits until nothing is left of the answers: no answer under way, no session, no lease without a deployment that it
 * belongs to, memory of what is leased alone, and processes as they were.
 *
 * @throws saying what is left, and where
 */
export async function atRest(mesh: ChaosMesh, baseline: Baseline): Promise<void> {
  const deadline = AbortSignal.timeout(REST_TIMEOUT_MS)
  for (;;) {
    const left = await leftovers(mesh, baseline)
    if (left.length === 0) return
    if (deadline.aborted) throw new Error(`left over after ${REST_TIMEOUT_MS / 1000} s: ${left.join('; ')}`)
    await delay(50)
  }
}

/** Waits until no device holds a lease any more: deployments that are not used give theirs back. */
export async function noLeases({ devices }: ChaosMesh, timeoutMs: number): Promise<void> {
  const deadline = AbortSignal.timeout(timeoutMs)
  for (;;) {
    const states = await Promise.all(devices.map(({ address }) => meshOf(address)))
    const held = states.filter(
      ({ self, leases }) => leases.length > 0 || self.memory.freeBytes !== self.memory.budgetBytes
    )
    if (held.length === 0) return
    if (deadline.aborted) {
      const who = held.map(
        ({ self, leases }) => `${self.name} has ${leases.length} leases, ${memoryOf(self)}`
      )
      throw new Error(`not everything was given back within ${timeoutMs / 1000} s: ${who.join('; ')}`)
    }
    await delay(250)
  }
}

async function leftovers({ devices }: ChaosMesh, baseline: Baseline): Promise<string[]> {
  const states = await Promise.all(devices.map(({ address }) => meshOf(address)))
  const metrics = await Promise.all(devices.map(({ address }) => metricsOf(address)))
  return devices.flatMap((device, at) => {
    const state = states[at]!
    const active = metrics[at]!.get('edgeshard_answers_active')
    const sessions = metrics[at]!.get('edgeshard_sessions') ?? 0
    return [
      ...(active === 0 ? [] : [`${active} answers under way`]),
      ...(sessions > 0 ? [`${sessions} sessions`] : []),
      ...leaseProblems(state, states),
      ...growth(device, baseline)
    ].map(problem => `${device.name}: ${problem}`)
  })
}

function leaseProblems({ self, leases }: MeshState, states: readonly MeshState[]): string[] {
  const orphans = leases.filter(({ source, layers }) => {
    const { deployments = [] } = states.find(({ self }) => self.peerId === source) ?? {}
    const stages = deployments.flatMap(({ plan }) => plan.stages)
    return !stages.some(
      stage => stage.peerId === self.peerId && stage.layers[0] === layers[0] && stage.layers[1] === layers[1]
    )
  })
  const open = leases.reduce((sum, { sessions }) => sum + sessions, 0)
  const leased = leases.reduce((sum, { bytes }) => sum + bytes, 0)
  return [
    ...(open === 0 ? [] : [`${open} sessions are open`]),
    ...orphans.map(({ layers, source }) => `a lease of [${layers}) belongs to no deployment of ${source}`),
    ...(self.memory.freeBytes < self.memory.budgetBytes - leased ? [memoryOf(self)] : [])
  ]
}

function growth(device: Device, baseline: Baseline): string[] {
  const before = baseline.of(device)
  if (before === undefined) return []
  const now = processState(device.pid)
  return (Object.keys(TOLERANCE) as (keyof ProcessState)[])
    .filter(what => now[what] > before[what] + TOLERANCE[what])
    .map(what => `${what} grew from ${before[what]} to ${now[what]}`)
}

function memoryOf({ memory }: MeshState['self']): string {
  return `${memory.freeBytes} of ${memory.budgetBytes} bytes are free`
}
