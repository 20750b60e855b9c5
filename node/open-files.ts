import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'

/** Where nothing says how many there are: what a node opens before its first connection. */
const USUALLY_OPEN = 48
const SHELL_TIMEOUT_MS = 2_000

/** How many files and connections this process may have open at once, and how many it has. */
export function openFiles(): { limit: number; open: number } {
  return { limit: openFilesLimit(), open: countOpen() }
}

/**
 * Node's own report would say it as well, but asks every thread of the process and waits for each: for seconds, while
 * threads load weights.
 */
function openFilesLimit(): number {
  if (process.platform === 'win32') return Number.POSITIVE_INFINITY
  const soft =
    process.platform === 'linux'
      ? /^Max open files +(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]
      : // A child has the limits of its parent.
        execFileSync('/bin/sh', ['-c', 'ulimit -n'], { encoding: 'utf8', timeout: SHELL_TIMEOUT_MS }).trim()
  const limit = Number(soft)
  return Number.isInteger(limit) && limit > 0 ? limit : Number.POSITIVE_INFINITY
}

function countOpen(): number {
  try {
    return readdirSync('/dev/fd').length
  } catch {
    // No such folder on this system: an estimate does, since a part is kept free in any case.
    return USUALLY_OPEN
  }
}
