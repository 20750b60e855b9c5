import { generateKeyPair } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { splitAddress } from '../../../node/mesh/contacts.ts'
import { Host } from '../../../node/mesh/host.ts'
import type { Mesh } from '../../../node/mesh/index.ts'
import { meshKeys } from '../../../node/mesh/membership.ts'
import { SECRET } from './fixtures.ts'

/** A member, in that it has the secret, that says what a test wants on the protocols. Connected to `target`. */
export async function rawMember(
  target: Pick<Mesh, 'addresses'>,
  { key, secret = SECRET, speaks = [] }: { key?: PrivateKey; secret?: Uint8Array; speaks?: string[] } = {}
): Promise<Host & AsyncDisposable> {
  const { prologue } = meshKeys(secret)
  const privateKey = key ?? (await generateKeyPair('Ed25519'))
  const host = await Host.create({
    privateKey,
    prologue,
    serviceTag: undefined,
    port: 0,
    listen: '127.0.0.1'
  })
  for (const protocol of speaks) await host.handle([protocol], () => {}, { maxInboundStreams: 1 })
  await host.start({
    onAnnounced() {},
    onConnected() {},
    onDisconnected() {},
    onIdentified() {},
    onTouched() {}
  })
  await host.dial(target.addresses.map(address => splitAddress(address).address))
  return Object.assign(host, { [Symbol.asyncDispose]: () => host.stop() })
}

/** A message as protocols/json-stream.ts sends it. */
export function message(value: unknown): Buffer {
  const body = Buffer.from(JSON.stringify(value))
  const head = Buffer.alloc(4)
  head.writeUInt32BE(body.byteLength)
  return Buffer.concat([head, body])
}

/** The id of a peer that does not exist. */
export async function nobody(): Promise<string> {
  return peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString()
}
