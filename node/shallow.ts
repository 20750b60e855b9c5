/** Schemas of tools are rarely ten deep; what is copied and written level by level must not be without end. */
export const MAX_LEVELS = 64

/** Whether a value of JSON has no more than MAX_LEVELS levels of lists and objects. */
export function isShallow(value: unknown): boolean {
  let level: unknown[] = [value]
  for (let depth = 0; depth < MAX_LEVELS; depth++) {
    level = level.flatMap(item => (typeof item === 'object' && item !== null ? Object.values(item) : []))
    if (level.length === 0) return true
  }
  return false
}
