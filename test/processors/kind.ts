import { existsSync, readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { EMULATED } from './emulated.ts'

/** Instruction sets that ONNX Runtime's kernels are chosen by, best last. */
const X64 = ['avx2', 'avx_vnni', 'avx512f', 'avx512_vnni', 'amx_tile']
const ARM64 = ['asimddp', 'i8mm', 'sve']
const CPUINFO = '/proc/cpuinfo'

/** What of these the processor has, as `/proc/cpuinfo` says: "x64 avx2", "arm64 asimddp i8mm"; elsewhere its model. */
export function processorKind(): string {
  const emulated = process.env[EMULATED]
  if (emulated !== undefined) return `${emulated}, emulated`
  if (!existsSync(CPUINFO)) return `${process.arch} ${cpus()[0]?.model}`
  const [, flags = ''] = /^(?:flags|Features)\s*:\s*(.*)$/m.exec(readFileSync(CPUINFO, 'utf8')) ?? []
  const has = new Set(flags.split(' '))
  const sets = process.arch === 'arm64' ? ARM64 : X64
  return [process.arch, ...sets.filter(name => has.has(name))].join(' ')
}
