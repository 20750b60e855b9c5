import { readdirSync } from 'node:fs'

/** Where nothing says how many there are: what a node opens before its first connection. */
const USUALLY_OPEN = 48

/** How many files and connections this process may have open at once, and how many it has. */
export function openFiles(): { limit: number; open: number } {
  return { limit: openFilesLimit(), open: countOpen() }
}

function openFilesLimit(): number {
  if (process.platform === 'win32') return Number.POSITIVE_INFINITY
  const report: NodeJS.ProcessReport & { excludeNetwork?: boolean } = process.report
  const before = report.excludeNetwork ?? false
  // Else it would look up the names of all that are connected.
  report.excludeNetwork = true
  const { userLimits } = report.getReport() as {
    userLimits?: { open_files?: { soft: number | 'unlimited' } }
  }
  report.excludeNetwork = before
  const soft = userLimits?.open_files?.soft
  return typeof soft === 'number' ? soft : Number.POSITIVE_INFINITY
}

function countOpen(): number {
  try {
    return readdirSync('/dev/fd').length
  } catch {
    // No such folder on this system: an estimate does, since a part is kept free in any case.
    return USUALLY_OPEN
  }
}
