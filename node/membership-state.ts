/** Lets devices into the mesh, and keeps them out. */
export interface MembershipControl {
  /** The devices that are in the mesh, and who admitted each. */
  readonly state: MembershipState
  /** Peer ids that are not let in. */
  readonly banned: string[]
  /**
   * Bans a device and all that only it has let in, but for `keep`, which this device admits itself. For owners.
   *
   * @throws {NotOwnerError} naming the owners, {RequestError} for a ban that the mesh cannot have
   */
  ban(peerId: string, options?: { keep?: readonly string[] }): Promise<BanReport>
  /** Lets a device in again that is banned; what it had let in itself stays out. For owners. */
  unban(peerId: string): Promise<void>
  /** Makes a device an owner. For the device that made the mesh. */
  promote(peerId: string): Promise<void>
  /** Changes the mesh's secret. A member that is missed is cut off and needs a new ticket. For owners. */
  rotate(): Promise<{ reached: PeerName[]; missed: PeerName[] }>
}

/** The membership of the mesh, as far as this device knows it. */
export interface MembershipState {
  /** The mesh's name. */
  mesh: string
  /** Whether this device is in itself. */
  isIn: boolean
  devices: MemberState[]
  banned: PeerName[]
}

/** A device that is in the mesh, connected or not. */
export interface MemberState extends PeerName {
  /** It is this device. */
  self: boolean
  /** It has made the mesh. */
  founder: boolean
  /** It may ban, unban and rotate. */
  owner: boolean
  /** Devices that took a ticket from it. */
  admittedBy: PeerName[]
  /** Devices that only it, or what it let in, has let in: a ban of it puts them out, too. */
  dependents: PeerName[]
}

/** What a ban did. */
export interface BanReport {
  /** Devices that are out now, the banned one first. */
  out: PeerName[]
  /** Devices that it would have put out and that are admitted by this device now. */
  kept: PeerName[]
}

export interface PeerName {
  peerId: string
  name: string
}

/** Pairing: a device that is told six digits gets a ticket, while a person has opened it. */
export interface PairingControl {
  readonly state: PairingState
  /**
   * Opens pairing for two minutes and three wrong codes, under a new code.
   *
   * @throws {NotOwnerError} where this device is not in its mesh, {PairingPausedError} after too many wrong codes
   */
  open(): Promise<PairingState>
  /** Closes it; nothing where it is closed. */
  close(): Promise<PairingState>
}

export type PairingState =
  | {
      open: true
      /** Six digits, to be typed on the other device. */
      code: string
      leftMs: number
      triesLeft: number
      /** Multiaddrs at which the other device finds this one, where it does not by mDNS. */
      addresses: string[]
      /** IP address from which a wrong code came last. */
      from?: string
    }
  | {
      open: false
      /** How it ended; absent where it was never open. */
      end?: 'paired' | 'failed' | 'expired' | 'tries' | 'closed'
      /** Peer id of the device that has got a ticket, or for which none could be made. */
      device?: string
      /** IP address of that device, or from which the last wrong code came. */
      from?: string
    }

/** What is typed on the device that is to join, as text and as a QR code. */
export interface JoinCommand {
  command: string
  qr: {
    /** Modules on a side, the quiet ones around it included. */
    size: number
    /** Its dark modules as the `d` of an SVG path, a module being 1 wide. */
    path: string
  }
}
