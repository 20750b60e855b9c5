import type { LeaseTable } from './lease-table.ts'

/** How models are leased on a device whose processors have memories of their own. */
export class AllLeases implements Pick<LeaseTable, 'useOf' | 'evictIdle'> {
  readonly #tables: readonly Pick<LeaseTable, 'useOf' | 'evictIdle'>[]

  constructor(tables: readonly Pick<LeaseTable, 'useOf' | 'evictIdle'>[]) {
    this.#tables = tables
  }

  useOf(modelId: string): 'busy' | 'idle' | 'no' {
    const uses = this.#tables.map(table => table.useOf(modelId))
    if (uses.includes('busy')) return 'busy'
    return uses.includes('idle') ? 'idle' : 'no'
  }

  evictIdle(modelId: string): boolean {
    if (this.useOf(modelId) === 'busy') return false
    for (const table of this.#tables) table.evictIdle(modelId)
    return true
  }
}
