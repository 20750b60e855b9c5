import { logger } from '../../models/log.ts'
import type { LeaseTable } from '../stage/lease-table.ts'
import { formatBytes } from '../units.ts'
import type { StageRuntime } from './stage-runtime.ts'

const log = logger('edgeshard:node')

/** The share of what was held when the GPU refused more. */
const AFTER_SHORTAGE_SHARE = 0.8
/** Of what was offered at first: what fails with less is not for want of memory, and the CPU takes it. */
const LEAST_SHARE = 0.25

/**
 * Lowers what a device offers whenever its GPU has refused memory, for as long as the program runs: other programs use a
 * card, too, and what a driver gives all at once is not what it gives piece by piece.
 */
export function lowerWhenShort(
  { events }: Pick<StageRuntime, 'events'>,
  leases: Pick<LeaseTable, 'budgetBytes' | 'heldBytes' | 'lowerBudget'>,
  onNotice: (message: string) => void
): void {
  const leastBytes = Math.ceil(LEAST_SHARE * leases.budgetBytes)
  events.on('short', () => {
    const { budgetBytes, heldBytes } = leases
    const bytes = Math.max(leastBytes, Math.floor(AFTER_SHORTAGE_SHARE * heldBytes))
    // What is timed with nothing held says nothing of stages.
    if (heldBytes === 0 || bytes >= budgetBytes) return
    leases.lowerBudget(bytes)
    log.warn('the GPU has less memory than was offered', { budgetBytes: bytes })
    onNotice(
      `the GPU refused memory with ${formatBytes(heldBytes)} in use: this device offers ${formatBytes(bytes)} from now on; \`up --gpu-memory\` says so from the start`
    )
  })
}
