/**
 * Looks at everything that keeps a device from being a good member of its mesh.
 *
 * @example
 * ```ts
 * for (const { level, check, found, advice } of await diagnose(home)) console.log(level, check, found, advice)
 * ```
 */
import { messageOf } from '../../protocols/text.ts'
import type { Finding } from './finding.ts'
import { checkGpu } from './gpu.ts'
import { checkDisk, checkHome, checkMemory, checkOpenFiles, checkRuntime } from './host.ts'
import { checkMulticastSending, checkPort, checkRunningNode } from './network.ts'

export type { Finding } from './finding.ts'

type Check = (home: string, up: string) => Promise<Finding[]>

const CHECKS: Record<string, Check> = {
  home: checkHome,
  disk: checkDisk,
  memory: checkMemory,
  'open files': checkOpenFiles,
  runtime: checkRuntime,
  gpu: checkGpu,
  multicast: checkMulticastSending,
  port: checkPort,
  node: checkRunningNode
}

/**
 * Runs every check; one that fails itself is a finding, too.
 *
 * @param up what a person types to start the node of this home
 */
export async function diagnose(home: string, up = 'edgeshard up'): Promise<Finding[]> {
  const findings = await Promise.all(
    Object.entries(CHECKS).map(async ([check, look]): Promise<Finding[]> => {
      try {
        return await look(home, up)
      } catch (error) {
        return [{ level: 'problem', check, found: `the check itself failed: ${messageOf(error)}` }]
      }
    })
  )
  return findings.flat()
}
