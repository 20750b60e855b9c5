import { generateKeyPair } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { splitAddress } from '../../../node/mesh/contacts.ts'
import { Host } from '../../../node/mesh/host.ts'
import type { Mesh } from '../../../node/mesh/index.ts'
import { type Membership, meshKeys } from '../../../node/mesh/membership.ts'
import type { Roll } from '../../../node/mesh/roll.ts'
import { signedRoll } from '../../../node/mesh/signed-roll.ts'
import { signerOf } from '../../../node/mesh/signing.ts'
import { meet } from '../../../protocols/membership/client.ts'
import type { MembershipHandlers } from '../../../protocols/membership/index.ts'
import { admittedMembership } from '../../fixtures/admitted.ts'
import { UNHEARD } from '../../fixtures/unheard.ts'
import { SECRET } from './fixtures.ts'

/** A host that says what a test wants, as soon as it is connected to `target`; its own gate is open. */
export interface RawOptions {
  key?: PrivateKey
  secret?: Uint8Array
  /** Protocols that it names, and says nothing on. */
  speaks?: string[]
}

/**
 * A member, admitted by the founder of the tests' mesh, that says what a test wants on the protocols. Connected to `target`,
 * and let in.
 */
export async function rawMember(
  target: Pick<Mesh, 'addresses' | 'peerId'>,
  {
    key,
    membership,
    ...options
  }: RawOptions & {
    /** What it knows of the mesh. @default that the founder has admitted it */
    membership?: Membership
  } = {}
): Promise<Host & AsyncDisposable> {
  const privateKey = key ?? (await generateKeyPair('Ed25519'))
  const signer = signerOf(privateKey)
  const known = membership ?? (await admittedMembership(options.secret ?? SECRET, signer.peerId))
  const host = await rawHost({ key: privateKey, ...options })
  await dial(host, target)
  // It opens the meeting whatever its id, and serves none: what it names to its peers is the test's.
  await meet(host, target.peerId, rawHandlers(signedRoll(known, signer)))
  return host
}

/** Who knows the secret and is in nobody's mesh, connected to `target`. */
export async function rawStranger(
  target: Pick<Mesh, 'addresses'>,
  options: RawOptions = {}
): Promise<Host & AsyncDisposable> {
  const host = await rawHost(options)
  await dial(host, target)
  return host
}

/** What a node says on the membership protocol, with nothing behind it. */
export function rawHandlers(roll: Roll): MembershipHandlers {
  return {
    hello: () => ({ ...roll.proof, epoch: 0 }),
    judge: (peerId, hello) => roll.judge(peerId, hello),
    statements: () => roll.known.all,
    take: (_, statements) => roll.take(statements),
    met() {},
    refused() {},
    redeem: async () => ({ code: 'ticket-unknown' }),
    rotate: async () => ({ type: 'adopted' })
  }
}

async function rawHost({ key, secret = SECRET, speaks = [] }: RawOptions): Promise<Host & AsyncDisposable> {
  const { prologue } = meshKeys(secret)
  const host = await Host.create({
    privateKey: key ?? (await generateKeyPair('Ed25519')),
    prologue,
    serviceTag: undefined,
    port: 0,
    listen: '127.0.0.1',
    gate: { accepts: () => true, hasMet: () => true }
  })
  for (const protocol of speaks) await host.handle([protocol], () => {}, { maxInboundStreams: 1 })
  await host.start(UNHEARD)
  return Object.assign(host, { [Symbol.asyncDispose]: () => host.stop() })
}

async function dial(host: Host, target: Pick<Mesh, 'addresses'>): Promise<void> {
  await host.dial(target.addresses.map(address => splitAddress(address).address))
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
