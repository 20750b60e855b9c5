/** Figures as people read them. */

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const

/** `25.1 GiB`: one decimal, so that two figures that differ in the planner may read the same. */
export function formatBytes(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 ? value.toFixed(0) : value.toFixed(1)} ${UNITS[unit]}`
}

export function formatMs(ms: number): string {
  return `${ms.toFixed(ms < 1 ? 3 : 1)} ms`
}
