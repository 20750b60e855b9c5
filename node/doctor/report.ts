import { createRequire } from 'node:module'
import { availableParallelism, cpus, homedir, hostname, release, totalmem, userInfo } from 'node:os'
import { GpuFile, type GpuProbe } from '../processor/gpu-file.ts'
import { gpuPresence } from '../processor/gpu-presence.ts'
import { VERSION } from '../version.ts'
import type { Finding } from './finding.ts'
import { redacted } from './redacted.ts'

/** Checks whose words are of this device's hardware and programs alone. Of the others a report has how they ended. */
const TOLD_CHECKS: readonly string[] = ['disk', 'memory', 'open files', 'runtime', 'gpu']

/** What a person can pass on when something fails here: no names, ids, addresses, tokens or paths. */
export interface DoctorReport {
  version: string
  node: string
  onnxRuntime: string
  system: {
    platform: string
    release: string
    arch: string
    cpu: string
    threads: number
    memoryBytes: number
  }
  gpu: { driver?: string; reason?: string; crashes: Crash[]; probe?: Omit<GpuProbe, 'key' | 'model'> }
  findings: Finding[]
}

interface Crash {
  at: string
  reason: string
}

/** @param findings of `diagnose` */
export async function reportOf(home: string, findings: readonly Finding[]): Promise<DoctorReport> {
  const require = createRequire(import.meta.url)
  const { version: onnxRuntime } = require('onnxruntime-node/package.json') as { version: string }
  const presence = await gpuPresence()
  const { crashes, probe } = presence.possible
    ? await new GpuFile(home).read(presence.driver)
    : { crashes: [], probe: undefined }
  const clean = (text: string) =>
    redacted(text, { paths: [home, homedir()], names: [hostname(), userName()] })
  return {
    version: VERSION,
    node: process.version,
    onnxRuntime,
    system: {
      platform: process.platform,
      release: clean(release()),
      arch: process.arch,
      cpu: clean(cpus()[0]?.model ?? 'unknown'),
      threads: availableParallelism(),
      memoryBytes: totalmem()
    },
    gpu: {
      ...(presence.possible ? { driver: clean(presence.driver) } : { reason: clean(presence.reason) }),
      crashes: crashes.map(({ atMs, reason }) => ({ at: dateOf(atMs), reason: clean(reason) })),
      ...(probe && { probe: withoutModel(probe, clean) })
    },
    findings: findings.map(({ level, check, found, advice }) => {
      if (!TOLD_CHECKS.includes(check)) return { level, check, found: 'left out of reports' }
      return { level, check, found: clean(found), ...(advice !== undefined && { advice: clean(advice) }) }
    })
  }
}

function withoutModel(
  { measuredAtMs, times, difference, keepsBits, allocatableBytes, verdict }: GpuProbe,
  clean: (text: string) => string
): Omit<GpuProbe, 'key' | 'model'> {
  return {
    measuredAtMs,
    times: times.map(({ kind, work, cpuMs, gpuMs }) => ({
      kind: clean(kind),
      work: clean(work),
      cpuMs,
      gpuMs
    })),
    ...(difference !== undefined && { difference }),
    ...(keepsBits !== undefined && { keepsBits }),
    ...(allocatableBytes !== undefined && { allocatableBytes }),
    verdict: { use: verdict.use, reason: clean(verdict.reason) }
  }
}

/** Where a file was damaged it may be no date. */
function dateOf(atMs: number): string {
  return atMs <= 8.64e15 ? new Date(atMs).toISOString() : 'unknown'
}

function userName(): string {
  try {
    return userInfo().username
  } catch {
    // A user of a container may have no name.
    return ''
  }
}
