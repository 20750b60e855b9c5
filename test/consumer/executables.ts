/** Kinds of processors as Node calls them, by what the three formats of programs call them. */
const ELF = new Map([
  [62, 'x64'],
  [183, 'arm64']
])
const PE = new Map([
  [0x8664, 'x64'],
  [0xaa64, 'arm64']
])
const MACH_O = new Map([
  [0x01000007, 'x64'],
  [0x0100000c, 'arm64']
])
const MACH_O_64 = 0xfeedfacf
/** Several of them in one file. A compiled class of Java begins with the same bytes, and counts more than this after them. */
const MACH_O_FAT = 0xcafebabe
const MAX_FAT = 16
const FAT_ENTRY_BYTES = 20

/**
 * The platforms that a program or library runs on, by its first bytes (4 KiB are enough): `linux-x64`, with `?` for a
 * processor that is none of Node's here. None where it is no program.
 */
export function platformsOf(head: Buffer): string[] {
  if (head.length < 64) return []
  if (head.readUInt32BE(0) === 0x7f454c46) return [named('linux', ELF.get(head.readUInt16LE(18)))]
  if (head.readUInt32LE(0) === MACH_O_64) return [named('darwin', MACH_O.get(head.readUInt32LE(4)))]
  const count = head.readUInt32BE(4)
  if (head.readUInt32BE(0) === MACH_O_FAT && count <= MAX_FAT) {
    return Array.from({ length: count }, (_, i) =>
      named('darwin', MACH_O.get(head.readUInt32BE(8 + i * FAT_ENTRY_BYTES)))
    )
  }
  const at = head.readUInt32LE(0x3c)
  if (head.toString('latin1', 0, 2) !== 'MZ' || at + 6 > head.length) return []
  return head.toString('latin1', at, at + 4) === 'PE\0\0'
    ? [named('win32', PE.get(head.readUInt16LE(at + 4)))]
    : []
}

function named(os: string, cpu: string | undefined): string {
  return `${os}-${cpu ?? '?'}`
}
