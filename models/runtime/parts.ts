import type { LayerRange } from '../layers.ts'
import type { Manifest } from '../manifest.ts'

/**
 * Cuts a range into at most `count` neighbouring ones of about the same bytes, none of less than `leastBytes` unless it is
 * the only one.
 */
export function partsOf(
  { layers }: Pick<Manifest, 'layers'>,
  [start, end]: LayerRange,
  { count, leastBytes }: { count: number; leastBytes: number }
): LayerRange[] {
  const sizes = layers.slice(start, end).map(({ bytes }) => bytes)
  const all = sizes.reduce((sum, bytes) => sum + bytes, 0)
  const parts = Math.max(1, Math.min(count, sizes.length, Math.floor(all / leastBytes)))
  const ranges: LayerRange[] = []
  let from = start
  let sum = 0
  sizes.forEach((bytes, i) => {
    sum += bytes
    const layer = start + i + 1
    const left = parts - ranges.length
    // As soon as it is full, or the others need every layer that is left.
    if (left > 1 && (sum >= ((ranges.length + 1) * all) / parts - bytes / 2 || end - layer < left)) {
      ranges.push([from, layer])
      from = layer
    }
  })
  return [...ranges, [from, end]]
}
