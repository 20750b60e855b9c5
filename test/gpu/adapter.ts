import { existsSync } from 'node:fs'
import { gpuPresence } from '../../node/processor/gpu-presence.ts'

/** Where Debian's package chromium-common puts SwiftShader, a Vulkan driver that computes on the CPU, and a loader for it. */
const SWIFTSHADER_DIR = '/usr/lib/chromium'

/**
 * Makes a GPU driver known to the processes that this one starts, where one is installed: the system's own, else
 * SwiftShader. @returns why there is none, to be printed where a test skips
 */
export async function adapterMissing(): Promise<string | undefined> {
  const found = await gpuPresence()
  if (found.possible) return undefined
  const icd = `${SWIFTSHADER_DIR}/vk_swiftshader_icd.json`
  if (process.platform !== 'linux' || process.arch !== 'x64' || !existsSync(icd)) {
    return `no adapter: ${found.reason}, and Debian's chromium-common (SwiftShader) is not installed`
  }
  process.env.VK_ICD_FILENAMES = icd
  // The loader lies beside it; only processes that start from now on look there.
  process.env.LD_LIBRARY_PATH = [SWIFTSHADER_DIR, process.env.LD_LIBRARY_PATH].filter(Boolean).join(':')
  return undefined
}
