import { readdir } from 'node:fs/promises'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'
import { NO_GPU_ADVICE } from './gpu-advice.ts'

/** Where the Vulkan loader looks for drivers on Linux, each a file of JSON. */
const DRIVER_DIRS = ['/etc/vulkan/icd.d', '/usr/local/share/vulkan/icd.d', '/usr/share/vulkan/icd.d']
/** Variables that name such files in the place of those, or besides. */
const DRIVER_VARIABLES = ['VK_DRIVER_FILES', 'VK_ICD_FILENAMES', 'VK_ADD_DRIVER_FILES']

/** Whether ONNX Runtime might find a GPU here; what it is worth only a measurement says. */
export type GpuPresence =
  | {
      possible: true
      /** What is known of it, in a line; changes with the driver where the system tells. */
      driver: string
    }
  | {
      possible: false
      reason: string
      /** What a person can do; absent: nothing. */
      advice?: string
    }

/** Looks for drivers without starting one: some files are listed, nothing is loaded. */
export async function gpuPresence(
  { platform, arch }: Pick<NodeJS.Process, 'platform' | 'arch'> = process,
  env: NodeJS.ProcessEnv = process.env
): Promise<GpuPresence> {
  if (platform === 'win32' && arch === 'x64') return { possible: true, driver: 'Direct3D 12' }
  if (platform === 'darwin' && arch === 'arm64') return { possible: true, driver: 'Metal' }
  if (platform !== 'linux' || arch !== 'x64') {
    return { possible: false, reason: `ONNX Runtime has no GPU provider for ${platform} ${arch}` }
  }
  const named = DRIVER_VARIABLES.flatMap(name => (env[name] ?? '').split(delimiter)).filter(Boolean)
  const dirs = [
    ...DRIVER_DIRS,
    join(env.XDG_DATA_HOME ?? join(homedir(), '.local', 'share'), 'vulkan', 'icd.d')
  ]
  const listed = await Promise.all(
    dirs.map(async dir => {
      // A folder that is not there names no driver.
      const names = await readdir(dir).catch(() => [])
      return names.filter(name => name.endsWith('.json')).map(name => join(dir, name))
    })
  )
  const files = [...new Set(named.length > 0 ? named : listed.flat())]
  if (files.length === 0)
    return { possible: false, reason: 'no Vulkan driver is installed', advice: NO_GPU_ADVICE }
  return {
    possible: true,
    driver: `Vulkan: ${files
      .map(file => file.split('/').at(-1))
      .sort()
      .join(', ')}`
  }
}
