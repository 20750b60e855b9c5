/** True when the handshake of a dial has shown this node's own key; libp2p ends it then. */
export function isSelfDial(error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.some(isSelfDial)
  return error instanceof Error && error.name === 'InvalidPeerIdError' && /self/.test(error.message)
}
