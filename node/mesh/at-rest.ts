import { rotationBytes } from '../../protocols/membership/statement.ts'
import { lockHome } from '../home-lock.ts'
import { NotOwnerError } from './errors.ts'
import { loadIdentity } from './identity.ts'
import { loadMembership, type Membership, newSecret, saveMembership } from './membership.ts'
import type { Roll } from './roll.ts'
import { signedRoll } from './signed-roll.ts'
import { type Signer, signerOf } from './signing.ts'
import { encodeTicket, TICKET_TTL_MS } from './ticket.ts'
import { Tickets } from './tickets.ts'

/** What can be done with a mesh from a home on which no node runs. */
interface AtRest {
  membership: Membership
  roll: Roll
  signer: Signer
}

/**
 * A ticket of a device whose node does not run: it names no addresses, and is taken once the node runs.
 *
 * @throws {NotOwnerError} where the device is not in its mesh, {HomeInUseError}
 */
export async function inviteAtRest(home: string): Promise<string> {
  return await withHome(home, async ({ membership: { mesh, secret }, roll, signer }) => {
    if (!roll.isIn) throw new NotOwnerError('this device is not in its mesh, so that it can invite nobody')
    const { code, expiresAtMs } = await (await Tickets.load(home)).open(TICKET_TTL_MS)
    return encodeTicket({ secret, mesh, inviter: signer.peerId, code, addresses: [], expiresAtMs })
  })
}

/** Changes the secret of a mesh where nobody hears of it. @throws {NotOwnerError}, {HomeInUseError} */
export async function rotateAtRest(home: string): Promise<void> {
  await withHome(home, async ({ membership, roll, signer }) => {
    if (!roll.isOwner) throw new NotOwnerError('only owners of this mesh can rotate, and this device is none')
    const secret = newSecret()
    const epoch = membership.epoch + 1
    const by = signer.peerId
    const rotation = { epoch, by, secret: Buffer.from(secret).toString('hex') }
    const signature = signer.sign(rotationBytes(membership.mesh, rotation))
    await saveMembership(home, { ...membership, secret, epoch, signed: { by, signature } })
  })
}

async function withHome<T>(home: string, act: (at: AtRest) => Promise<T>): Promise<T> {
  const unlock = await lockHome(home)
  try {
    const signer = signerOf(await loadIdentity(home))
    const membership = await loadMembership(home, signer.peerId)
    return await act({ membership, signer, roll: signedRoll(membership, signer) })
  } finally {
    await unlock()
  }
}
