import type { Stream } from '@libp2p/interface'

/** What a yamux stream is beside the interface. */
interface Windowed {
  state?: number
  recvWindow?: number
  recvWindowCapacity?: number
  sendWindowUpdate?: () => void
}

const ESTABLISHED = 3
/** No more of a large window stands unannounced: on a long fast link it is what keeps the sender going. */
const UPDATE_BYTES = 256 * 1024

/**
 * Lets the sender know of room in the window when half of it is used up, as Go's yamux does. The library answers every
 * frame with an update: a record to encrypt, a packet and a thread woken on both sides, for every hidden state. Where
 * the library's streams should change, updates are as often as it sends them.
 */
export function updateWindowSeldom(stream: Stream): void {
  const windowed: Windowed = stream as unknown as Windowed
  const update = windowed.sendWindowUpdate?.bind(stream)
  if (update === undefined) return
  windowed.sendWindowUpdate = () => {
    const { state, recvWindow = 0, recvWindowCapacity = 0 } = windowed
    const used = recvWindow - recvWindowCapacity
    if (state !== ESTABLISHED || used >= Math.min(recvWindow / 2, UPDATE_BYTES)) update()
  }
}
