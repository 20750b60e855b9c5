import { createMembershipService, type MembershipService } from '../../protocols/membership/index.ts'
import type { MembershipControl, PeerName } from '../api.ts'
import type { Discovery } from './discovery.ts'
import type { Host } from './host.ts'
import type { Membership, MeshKeys } from './membership.ts'
import { MembershipChanges } from './membership-changes.ts'
import { encodeTicket, TICKET_TTL_MS } from './ticket.ts'

export interface MembersInit {
  home: string
  host: Host
  discovery: Discovery
  /** The membership as the home directory has it. */
  membership: Membership
  nameOf(peerId: string): string
  onNotice(message: string): void
  /** The secret changed: announcements use these keys from now on. */
  onKeys(keys: MeshKeys): void
}

/** The members of the mesh: tickets let in, rotations and bans keep out. */
export class Members implements MembershipControl {
  readonly #init: MembersInit
  readonly #changes: MembershipChanges
  #service: MembershipService | undefined

  constructor(init: MembersInit) {
    const { home, host, discovery, nameOf, onNotice, onKeys } = init
    this.#init = init
    this.#changes = new MembershipChanges(init.membership, {
      home,
      host,
      membership: {
        tell: async (peerId, change) => (await this.#service?.tell(peerId, change)) ?? { type: 'refused' }
      },
      nameOf,
      onNotice,
      onKeys: async keys => {
        onKeys(keys)
        await host.rekey(keys)
        discovery.forgetRefusals()
      }
    })
  }

  /** Registers the protocol; before the host starts. */
  async start(): Promise<void> {
    this.#service = await createMembershipService(this.#init.host, {
      onChange: (peerId, change) => this.#changes.onChange(peerId, change)
    })
  }

  /** A peer is connected: what only one of the two knows of the membership, the other one hears. */
  connected(peerId: string): void {
    this.#changes.greet(peerId)
  }

  async stop(): Promise<void> {
    await this.#service?.stop()
  }

  /** The membership as it is now. */
  get membership(): Membership {
    return this.#changes.membership
  }

  /** A ticket that lets another device join this node's mesh. */
  invite(ttlMs: number = TICKET_TTL_MS): string {
    const { secret, epoch } = this.membership
    const { addresses } = this.#init.host
    return encodeTicket({ secret, epoch, addresses, expiresAtMs: Date.now() + ttlMs })
  }

  /**
   * Changes the mesh's secret. Peers that are connected get the new one; all others, and `ban` in any case, are cut
   * off and needs a new ticket.
   */
  async rotate(
    options: { ban?: string | undefined } = {}
  ): Promise<{ reached: PeerName[]; missed: PeerName[] }> {
    const { discovery, nameOf } = this.#init
    const known = [...discovery.contacts.keys()].filter(peerId => peerId !== options.ban)
    const { reached } = await this.#changes.rotate(options)
    const named = (peerId: string) => ({ peerId, name: nameOf(peerId) })
    const missed = known.filter(peerId => !reached.includes(peerId) && !this.isBanned(peerId))
    return { reached: reached.map(named), missed: missed.map(named) }
  }

  /** Peers that are not let in. */
  get banned(): string[] {
    return this.membership.banned
  }

  isBanned(peerId: string): boolean {
    return this.#changes.isBanned(peerId)
  }

  /** Takes a peer off the mesh's ban list; it needs a new ticket to come back. */
  unban(peerId: string): Promise<void> {
    return this.#changes.unban(peerId)
  }
}
