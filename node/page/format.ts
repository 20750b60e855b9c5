const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const

/** `2.8 of 4.0 GiB`: both in the unit of the second. */
export function bytesOf(done: number, total: number): string {
  const unit = unitOf(total)
  return `${inUnit(done, unit)} of ${inUnit(total, unit)} ${UNITS[unit]}`
}

export function bytes(count: number): string {
  const unit = unitOf(count)
  return `${inUnit(count, unit)} ${UNITS[unit]}`
}

function unitOf(count: number): number {
  return Math.min(UNITS.length - 1, Math.floor(Math.log2(Math.max(1, count)) / 10))
}

function inUnit(count: number, unit: number): string {
  return (count / 1024 ** unit).toFixed(unit === 0 ? 0 : 1)
}

/** `5.2 ms`, `1.5 s`. */
export function time(ms: number): string {
  if (ms >= 10_000) return `${(ms / 1000).toFixed(0)} s`
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`
  return `${ms >= 100 ? ms.toFixed(0) : ms.toFixed(1)} ms`
}

/** `1:05` for what is left of time. */
export function clock(ms: number): string {
  const seconds = Math.ceil(ms / 1000)
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
}

/** `94 Mbps`, `1.2 Gbps`. */
export function rate(mbps: number): string {
  if (mbps >= 1000) return `${(mbps / 1000).toFixed(1)} Gbps`
  return `${mbps >= 10 ? mbps.toFixed(0) : mbps.toFixed(1)} Mbps`
}

export function tokensPerSecond(tpotMs: number): string {
  return tpotMs > 0 ? `${(1000 / tpotMs).toFixed(1)} tokens/s` : 'one token'
}

/** `layers 3 to 5` for [3, 6). */
export function layerRange([start, end]: readonly [number, number]): string {
  return end - start === 1 ? `layer ${start}` : `layers ${start} to ${end - 1}`
}

/** `layers 3–5`, where there is little room. */
export function shortRange([start, end]: readonly [number, number]): string {
  return end - start === 1 ? `layer ${start}` : `layers ${start}–${end - 1}`
}

/** The last digits of an id, which tell devices of one name apart. */
export function shortId(id: string): string {
  return `…${id.slice(-6)}`
}

/** A sentence of a node, whose peer ids nobody reads to their end, with short ones. */
export function withShortPeerIds(text: string): string {
  return text.replace(/\b12D3KooW[1-9A-HJ-NP-Za-km-z]{44}\b/g, shortId)
}

/** A name that fits: cut in whole characters, with a sign that it is. */
export function cut(text: string, maxChars: number): string {
  const characters = [...text]
  return characters.length <= maxChars ? text : `${characters.slice(0, maxChars - 1).join('')}…`
}
