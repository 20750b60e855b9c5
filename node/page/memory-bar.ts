import type { Memory } from './devices.ts'
import { html } from './html.ts'

/** What a device's budget is filled with; the figures stand beside it. */
export function MemoryBar({ memory }: { memory: Memory }) {
  const { budgetBytes, weightBytes, otherBytes, idleBytes } = memory
  const share = (count: number) => (budgetBytes === 0 ? 0 : (100 * count) / budgetBytes)
  return html`<svg class="memory" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
    <rect class="free" width="100" height="6" />
    <rect class="weights" width=${share(weightBytes)} height="6" />
    <rect class="other" x=${share(weightBytes)} width=${share(otherBytes)} height="6" />
    <rect class="idle" x=${share(weightBytes + otherBytes)} width=${share(idleBytes)} height="6" />
  </svg>`
}
