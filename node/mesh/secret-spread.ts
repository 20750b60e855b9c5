import { delay } from '../delay.ts'
import type { FarDevice } from './far-devices.ts'

/** Far devices have a new secret after seconds; those that have not are named. */
const SECRET_SPREAD_MS = 5000
const SECRET_LOOK_MS = 50

export interface SpreadDevices {
  readonly devices: readonly string[]
  get(peerId: string): Pick<FarDevice, 'state' | 'epoch'> | undefined
}

/** Far devices that are there and have the secret of an epoch by their own word: once all of them do, or after SECRET_SPREAD_MS. */
export async function reachedByOthers(far: SpreadDevices, epoch: number): Promise<string[]> {
  const deadlineMs = performance.now() + SECRET_SPREAD_MS
  const { signal } = new AbortController()
  for (;;) {
    const there = far.devices.flatMap(peerId => {
      const device = far.get(peerId)
      return device?.state === 'connected' ? [{ peerId, epoch: device.epoch }] : []
    })
    const reached = there.filter(device => device.epoch >= epoch).map(({ peerId }) => peerId)
    if (reached.length === there.length || performance.now() > deadlineMs) return reached
    await delay(SECRET_LOOK_MS, signal)
  }
}
