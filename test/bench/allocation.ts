import { spawnSync } from 'node:child_process'

/** What the command line sets where it starts a Node (node/cli/edgeshard.mjs): weights in huge pages. */
const ALLOCATION = 'glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1048576'

/**
 * Whether this process allocates as the command line's does. If not, the same script runs again in one that does, and
 * this one takes its exit status.
 */
export function withAllocation(): boolean {
  if (process.platform !== 'linux' || process.env.GLIBC_TUNABLES !== undefined) return true
  process.exitCode = runAgain(process.argv.slice(1), ALLOCATION).status ?? 1
  return false
}

/** Runs a script in a process without huge pages and returns what it prints. */
export function withoutHugePages(args: string[]): string {
  return runAgain(args, 'glibc.malloc.hugetlb=0', 'pipe').stdout
}

/** The same with them. */
export function withHugePages(args: string[]): string {
  return runAgain(args, ALLOCATION, 'pipe').stdout
}

function runAgain(args: string[], tunables: string, stdout: 'inherit' | 'pipe' = 'inherit') {
  return spawnSync(process.execPath, [...process.execArgv, ...args], {
    env: { ...process.env, GLIBC_TUNABLES: tunables },
    stdio: ['inherit', stdout, 'inherit'],
    encoding: 'utf8'
  })
}
