import type { ProfileSubject } from '../profile/profile-key.ts'
import type { GpuFile, GpuProbe } from './gpu-file.ts'
import { probeGpu } from './probe.ts'
import { probeKey } from './probe-key.ts'
import { judge } from './verdict.ts'

/** Trying a GPU takes so long at most. */
const PROBE_MS = 180_000
/** A GPU that is tried and says nothing for so long hangs. */
const PROBE_SILENCE_MS = 60_000

export interface TrialInit {
  file: Pick<GpuFile, 'write'>
  driver: string
  subject: ProfileSubject & { name: string }
  /** The most memory that is worth asking for. */
  mostBytes: number
  signal?: AbortSignal
}

/** Tries the GPU with the layers of a model and remembers what came of it; crashes of before are forgotten. */
export async function tryGpu({ file, driver, subject, mostBytes, signal }: TrialInit): Promise<GpuProbe> {
  const { name: model, shape, quantization, threads } = subject
  const findings = await probeGpu({
    ...{ shape, quantization, threads, mostBytes },
    withinMs: PROBE_MS,
    silenceMs: PROBE_SILENCE_MS,
    ...(signal && { signal })
  })
  const { times, difference, keepsBits, allocatableBytes, failure = '', crashed } = findings
  const measuredAtMs = Date.now()
  const probe: GpuProbe = {
    key: probeKey(subject, driver),
    measuredAtMs,
    model,
    times,
    verdict: judge(findings, shape.decoderLayers),
    ...(difference !== undefined && Number.isFinite(difference) && { difference }),
    ...(keepsBits !== undefined && { keepsBits }),
    ...(allocatableBytes !== undefined && { allocatableBytes })
  }
  const crashes = crashed === true ? [{ atMs: measuredAtMs, reason: failure }] : []
  await file.write({ driver, crashes, probe })
  return probe
}
