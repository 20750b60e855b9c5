import { expect, test } from 'vitest'
import { platformsOf } from './executables.ts'

/** The beginning of a file, with numbers at some places. */
function head(write: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.alloc(256)
  write(bytes)
  return bytes
}

test.each<[string[], (bytes: Buffer) => void]>([
  [['linux-x64'], bytes => void (bytes.write('\x7fELF', 'latin1') + bytes.writeUInt16LE(62, 18))],
  [['linux-arm64'], bytes => void (bytes.write('\x7fELF', 'latin1') + bytes.writeUInt16LE(183, 18))],
  [['linux-?'], bytes => void (bytes.write('\x7fELF', 'latin1') + bytes.writeUInt16LE(40, 18))],
  [['darwin-arm64'], bytes => void (bytes.writeUInt32LE(0xfeedfacf) + bytes.writeUInt32LE(0x0100000c, 4))],
  [
    ['darwin-x64', 'darwin-arm64'],
    bytes => {
      bytes.writeUInt32BE(0xcafebabe)
      bytes.writeUInt32BE(2, 4)
      bytes.writeUInt32BE(0x01000007, 8)
      bytes.writeUInt32BE(0x0100000c, 28)
    }
  ],
  [
    ['win32-x64'],
    bytes => {
      bytes.write('MZ')
      bytes.writeUInt32LE(128, 0x3c)
      bytes.write('PE\0\0', 128, 'latin1')
      bytes.writeUInt16LE(0x8664, 132)
    }
  ],
  [[], bytes => void bytes.write('MZ, said the text')],
  [[], bytes => void bytes.write('#!/bin/sh\n')],
  [[], bytes => void (bytes.writeUInt32BE(0xcafebabe) + bytes.writeUInt32BE(65, 4))]
])('the first bytes of a program say that it runs on %j', (platforms, write) => {
  expect(platformsOf(head(write))).toEqual(platforms)
})

test('this Node is a program of this platform', async () => {
  const { open } = await import('node:fs/promises')
  await using file = await open(process.execPath)
  const { buffer } = await file.read(Buffer.alloc(4096), 0, 4096, 0)
  expect(platformsOf(buffer)).toContain(`${process.platform}-${process.arch}`)
})
