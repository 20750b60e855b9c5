import { readFileSync } from 'node:fs'
import { posix } from 'node:path'

const ROOT = '/sys/fs/cgroup'

/**
 * Processors that the system lets this process have in the mean: what its control group, or one around that, is held to (Linux,
 * both versions; containers and services). Undefined: all that there are.
 *
 * @param read a file's text; undefined where there is none
 */
export function cpuQuota(read: (path: string) => string | undefined = textOf): number | undefined {
  const quotas = (read('/proc/self/cgroup') ?? '').split('\n').flatMap(line => {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? []
    if (controllers === undefined || path === undefined) return []
    if (controllers === '') return around(path, group => newer(read(posix.join(ROOT, group, 'cpu.max'))))
    if (!controllers.split(',').includes('cpu')) return []
    return ['cpu', controllers].flatMap(folder =>
      around(path, group => {
        const file = (name: string) => read(posix.join(ROOT, folder, group, name))
        return share(file('cpu.cfs_quota_us'), file('cpu.cfs_period_us'))
      })
    )
  })
  return quotas.length === 0 ? undefined : Math.min(...quotas)
}

/**
 * What a run takes where others follow it: a quota lets a short one through at full speed, and has the next ones stand still for
 * it, so that timings of short runs see a device that there is only for as long as they last.
 *
 * @param ms what it took
 * @param cpuMs of all processors' time
 */
export function sustainedMs(ms: number, cpuMs: number, quota: number | undefined): number {
  return quota === undefined ? ms : Math.max(ms, cpuMs / quota)
}

/** What is found of a group and of those around it: a container may see its own as the outermost one. */
function around(path: string, of: (group: string) => number | undefined): number[] {
  const own = of(path)
  const outer = path === '/' ? [] : around(posix.dirname(path), of)
  return own === undefined ? outer : [own, ...outer]
}

/** `100000 50000`, or `max 100000` of one that is held to nothing. */
function newer(text: string | undefined): number | undefined {
  const [quota, period] = text?.trim().split(' ') ?? []
  return share(quota, period)
}

/** Undefined of -1 and `max`: as much as there is. */
function share(quotaUs: string | undefined, periodUs: string | undefined): number | undefined {
  const processors = Number(quotaUs) / Number(periodUs)
  return processors > 0 && Number.isFinite(processors) ? processors : undefined
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    // Other systems, and groups without that controller, have no such file: nothing is held there.
    return undefined
  }
}
