import { setTimeout as delay } from 'node:timers/promises'
import type { MeshState } from '../../node/api.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import type { Lab } from './lab.ts'

const TIMEOUT_MS = deadlineMs(60_000)
const POLL_MS = 500

/** Waits until a host knows the profile of every one of `devices` devices and the link between any two of them. */
export async function meshReady(lab: Lab, host: string, devices: number): Promise<void> {
  const deadlineMs = performance.now() + TIMEOUT_MS
  for (;;) {
    const { self, peers, links } = JSON.parse(await lab.cli(host, ['peers', '--json'])) as MeshState
    const timed = [self, ...peers].filter(({ profiles }) => Object.keys(profiles).length > 0).length
    if (timed === devices && links.length === devices * (devices - 1)) return
    if (performance.now() > deadlineMs) {
      throw new Error(`after a minute ${host} knows ${timed} profiles and ${links.length} links`)
    }
    await delay(POLL_MS)
  }
}
