/**
 * When something was used, as far as the time of day that was noted then can be believed: what lies ahead was noted by a clock
 * that was wrong, and must not count as used last until that time has come.
 *
 * @returns ms since 1970; 0 where it lies ahead
 */
export function notedAt(atMs: number, nowMs: number): number {
  return atMs > nowMs ? 0 : atMs
}
