import { existsSync } from 'node:fs'
import { mkdir, rmdir, writeFile } from 'node:fs/promises'

/** Short periods keep a slow processor smooth: at 100 ms a quarter of one stands still for 75. */
const PERIOD_US = 10_000

/**
 * A control group that holds its processes to a share of the processors: cgroup v2 where it has the controller, else
 * v1.
 *
 * @returns the file that takes a process id, or null where neither works
 */
export async function createQuota(
  name: string,
  cpus: number,
  periodUs: number = PERIOD_US
): Promise<{ procs: string; remove(): Promise<void> } | null> {
  const quotaUs = Math.round(cpus * periodUs)
  for (const { folder, limits } of [
    { folder: `/sys/fs/cgroup/${name}`, limits: [['cpu.max', `${quotaUs} ${periodUs}`]] },
    {
      folder: `/sys/fs/cgroup/cpu/${name}`,
      limits: [
        ['cpu.cfs_period_us', String(periodUs)],
        ['cpu.cfs_quota_us', String(quotaUs)]
      ]
    }
  ] as const) {
    try {
      await mkdir(folder)
    } catch {
      continue
    }
    const remove = async () => rmdir(folder).catch(() => {})
    if (limits.every(([file]) => existsSync(`${folder}/${file}`))) {
      for (const [file, value] of limits) await writeFile(`${folder}/${file}`, value)
      return { procs: `${folder}/cgroup.procs`, remove }
    }
    await remove()
  }
  return null
}
