const UNITS_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000
}

/** Stands for a time without end. */
export const FOREVER_MS = -1

/** What no timer of Node can wait for is as good as forever. */
const LONGEST_MS = 2 ** 31 - 1

/**
 * A time in ms as Ollama writes it: a number of seconds, or `1h30m`, `5m`, `300ms`; without end where it is negative. Undefined
 * where it is no time.
 */
export function parseDuration(value: number | string): number | undefined {
  const ms = typeof value === 'number' ? 1000 * value : textMs(value.trim())
  if (ms === undefined || Number.isNaN(ms)) return undefined
  return endlessIfLong(ms)
}

/** FOREVER_MS for what is negative, or longer than can be waited for. */
export function endlessIfLong(ms: number): number {
  return ms < 0 || ms > LONGEST_MS ? FOREVER_MS : ms
}

function textMs(text: string): number | undefined {
  if (/^[+-]?\d+(\.\d+)?$/.test(text)) return 1000 * Number(text)
  const [, sign, parts] = /^([+-]?)((?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+)$/.exec(text) ?? []
  if (parts === undefined) return undefined
  let ms = 0
  for (const [, count, unit] of parts.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)) {
    ms += Number(count) * UNITS_MS[unit!]!
  }
  return sign === '-' ? -ms : ms
}
