/**
 * Times by size (of a batch, a prompt, a context) in which none is longer than that of a larger size: the work of a smaller
 * one is a part of the larger one's, and what disturbs a run only ever makes it longer. So of two that say otherwise the
 * smaller one's was disturbed.
 */
export function monotone(times: Readonly<Record<string, number>>): Record<string, number> {
  const ascending = Object.entries(times).sort(([a], [b]) => Number(a) - Number(b))
  let least = Number.POSITIVE_INFINITY
  const made = ascending.toReversed().map(([size, ms]): [string, number] => {
    least = Math.min(least, ms)
    return [size, least]
  })
  return Object.fromEntries(made)
}
