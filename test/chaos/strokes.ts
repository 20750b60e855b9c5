import { setTimeout as delay } from 'node:timers/promises'
import { SUSPECT_AFTER_MS } from '../../protocols/directory/constants.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import type { ChaosMesh, Device } from './mesh.ts'
import type { Kind } from './round.ts'

/** Longer than the others need to suspect it and to go on without it. */
const HANG_MS = SUSPECT_AFTER_MS + 4_000
/** Not long enough to be suspected. */
const PAUSE_MS = 700
const SLOW_LINK = { mbps: 2, latencyMs: 20 }
const ANSWER_IS_OVER_TIMEOUT_MS = deadlineMs(90_000)

/**
 * Does one thing to one device, at once.
 *
 * @returns what undoes it; resolves when the device runs again as it did before, `over` being the answer's end
 */
export function strike(
  mesh: ChaosMesh,
  device: Device,
  kind: Kind
): (over: Promise<unknown>) => Promise<void> {
  const end = (over: Promise<unknown>) => Promise.race([over, delay(ANSWER_IS_OVER_TIMEOUT_MS)])
  const { pid } = device
  const { cables } = mesh
  switch (kind) {
    case 'kill':
    case 'source':
      process.kill(pid, 'SIGKILL')
      return async over => {
        await end(over)
        await mesh.start(device)
      }
    case 'restart':
      process.kill(pid, 'SIGKILL')
      return () => mesh.start(device)
    case 'hang':
    case 'pause': {
      process.kill(pid, 'SIGSTOP')
      const resumed = delay(kind === 'hang' ? HANG_MS : PAUSE_MS).then(() => process.kill(pid, 'SIGCONT'))
      return async () => void (await resumed)
    }
    case 'unplug': {
      const unplugged = cables!.unplug(device)
      return async over => {
        await end(over)
        await unplugged
        await cables!.plug(device)
      }
    }
    case 'slow': {
      const slowed = cables!.slow(device, SLOW_LINK)
      return async over => {
        await end(over)
        await slowed
        await cables!.slow(device, null)
      }
    }
  }
}
