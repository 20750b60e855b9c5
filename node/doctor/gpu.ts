import { GpuFile } from '../processor/gpu-file.ts'
import { MAX_GPU_CRASHES } from '../processor/gpu-guard.ts'
import { gpuPresence } from '../processor/gpu-presence.ts'
import { GPU_REFUSAL_MS } from '../processor/gpu-refusals.ts'
import { gpuStageBytes } from '../processor/memories.ts'
import { formatBytes } from '../units.ts'
import type { Finding } from './finding.ts'

/** What is known of this device's GPU: no driver is started for it. */
export async function checkGpu(home: string): Promise<Finding[]> {
  const check = 'gpu'
  const presence = await gpuPresence()
  if (!presence.possible)
    return [{ level: 'ok', check, found: `layers are computed on the CPU: ${presence.reason}` }]
  const { driver } = presence
  const { crashes, probe, refusals } = await new GpuFile(home).read(driver)
  const refused = refusals.filter(({ atMs }) => Date.now() - atMs < GPU_REFUSAL_MS)
  const advice = "'edgeshard profile --providers' tries it"
  if (crashes.length >= MAX_GPU_CRASHES) {
    const found = `${driver}: it has crashed ${crashes.length} times, the last time with ${crashes.at(-1)?.reason}, and is left alone`
    return [{ level: 'note', check, found, advice: `${advice} again; a newer driver is tried by itself` }]
  }
  const level = crashes.length + refused.length > 0 ? 'note' : 'ok'
  const last = crashes.at(-1)
  const crashed = last === undefined ? '' : `; crashes: ${crashes.length}, the last one with ${last.reason}`
  const given = refused.map(({ reason }) => `; layers of a model are left to the CPU: ${reason}`)
  const fate = `${crashed}${given.join('')}`
  if (probe === undefined) {
    const found = `${driver}: not tried yet, so 'up --device auto' takes the CPU${fate}`
    return [{ level, check, found, advice }]
  }
  const { reason, use } = probe.verdict
  const { allocatableBytes = 0 } = probe
  const both =
    use === 'gpu' && allocatableBytes > 0
      ? ` for stages of ${formatBytes(gpuStageBytes(allocatableBytes))}, and the CPU beside it for what --memory is more`
      : ''
  const found = `${driver}: ${reason} (${probe.model}); 'up --device auto' takes the ${use.toUpperCase()}${both}${fate}`
  return [{ level, check, found }]
}
