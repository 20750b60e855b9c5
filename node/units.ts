/** Figures as people read them. */

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const

/** `25.1 GiB`: no more than three digits before the point. */
export function formatBytes(bytes: number, decimals = 1): string {
  let value = bytes
  let unit = 0
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 ? value.toFixed(0) : value.toFixed(decimals)} ${UNITS[unit]}`
}

/** `0.290 ms`, `12.5 ms`, `3.20 s`. */
export function formatMs(ms: number): string {
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`
  return `${ms.toFixed(ms < 1 ? 3 : 1)} ms`
}

/** `1 device`, `3 devices`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}

/** A bandwidth to three digits, without the unit. */
export function formatMbps(mbps: number): string {
  return `${Number(mbps.toPrecision(3))}`
}

/** Two amounts with as many decimals as it takes to tell them apart. */
export function formatBytesApart(a: number, b: number): [string, string] {
  for (let decimals = 1; decimals < 6; decimals++) {
    const pair: [string, string] = [formatBytes(a, decimals), formatBytes(b, decimals)]
    if (pair[0] !== pair[1]) return pair
  }
  return [`${a} B`, `${b} B`]
}
