import { z } from 'zod'
import { peerIdSchema } from '../peer-id.ts'
import { MAX_CONTACT_ADDRESSES, MAX_NEIGHBOURS_SAID, MAX_SIGNED_TEXT_CHARS } from './constants.ts'
import { nodeRecordSchema } from './record.ts'

/** What a device says of itself, signed by its key, so that it may come from anybody. */
export const signedRecordSchema = z.object({
  /** The peer id whose key signs, and of whom it speaks. */
  device: peerIdSchema,
  /** Rises with every one that the device signs, over its restarts too: an older one takes no newer one's place. */
  serial: z.int().min(0),
  /** JSON of a `FarRecord`, as it was signed: who cannot read all of it hands it on unchanged. */
  text: z.string().min(2).max(MAX_SIGNED_TEXT_CHARS),
  /** 64 bytes in base64url. */
  signature: z.string().regex(/^[\w-]{86}$/)
})

export type SignedRecord = z.output<typeof signedRecordSchema>

/** What the text of a signed record says. */
export const farRecordSchema = z.object({
  record: nodeRecordSchema,
  /** Where the device listens. */
  addresses: z.array(z.string().min(1).max(256)).max(MAX_CONTACT_ADDRESSES).default([]),
  /** Peers that it is connected to and hears of. A connection counts where both of its ends say so. */
  neighbours: z.array(peerIdSchema).max(MAX_NEIGHBOURS_SAID).default([]),
  /** Epoch of the secret that it has. */
  epoch: z.int().min(0).default(0)
})

export type FarRecord = z.output<typeof farRecordSchema>

/** The bytes that a signed record's signature covers; the mesh's name among them, so that it says nothing in another one. */
export function signedRecordBytes(
  mesh: string,
  { device, serial, text }: Omit<SignedRecord, 'signature'>
): Uint8Array {
  return new Uint8Array(
    Buffer.from(['edgeshard record 1', mesh, device, `${serial}`, text].join('\n'), 'utf8')
  )
}
