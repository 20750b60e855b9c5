import type { ConnectionEncrypter, MessageStream } from '@libp2p/interface'

/** Above it a second write costs less than a copy. */
const MAX_JOINED_BYTES = 128 * 1024

/**
 * Makes one write, and one packet where it fits, of each encrypted record. Noise hands its two bytes of length and the
 * record to the socket separately, which without Nagle's delay are two packets: half of an idle mesh's traffic, and a
 * system call more for every token.
 *
 * @param onInbound - a caller has asked for this encryption
 */
export function withJoinedWrites<C>(
  create: (components: C) => ConnectionEncrypter,
  onInbound: (connection: MessageStream) => void = () => {}
): (components: C) => ConnectionEncrypter {
  return components => {
    const encrypter = create(components)
    const outbound = encrypter.secureOutbound.bind(encrypter)
    const inbound = encrypter.secureInbound.bind(encrypter)
    encrypter.secureOutbound = (connection, options) => outbound(joining(connection), options)
    encrypter.secureInbound = (connection, options) => {
      onInbound(connection)
      return inbound(joining(connection), options)
    }
    return encrypter
  }
}

function joining<S extends MessageStream>(connection: S): S {
  const send = connection.send.bind(connection)
  // `subarray` of a list copies its chunks into one.
  connection.send = data => send(data.byteLength > MAX_JOINED_BYTES ? data : data.subarray())
  return connection
}
