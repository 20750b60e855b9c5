import { connect, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

const PIECE_BYTES = 1250

/** A TCP relay to a port of this machine that passes so many bytes a second each way, like a slow link. */
export class SlowRelay implements AsyncDisposable {
  readonly port: number
  /** The rate from the next piece on. */
  bytesPerSecond: number
  readonly #server: Server
  readonly #sockets: Set<Socket>

  static async start(target: number, bytesPerSecond: number): Promise<SlowRelay> {
    const sockets = new Set<Socket>()
    let relay: SlowRelay | undefined
    const rate = () => relay?.bytesPerSecond ?? bytesPerSecond
    const server = createServer(near => {
      const far = connect(target, '127.0.0.1')
      for (const [from, to] of [
        [near, far],
        [far, near]
      ] as const) {
        sockets.add(from)
        from.on('error', () => to.destroy())
        from.on('close', () => to.destroy())
        void pass(from, to, rate).catch(() => to.destroy())
      }
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    relay = new SlowRelay(server, sockets, bytesPerSecond)
    return relay
  }

  private constructor(server: Server, sockets: Set<Socket>, bytesPerSecond: number) {
    this.bytesPerSecond = bytesPerSecond
    this.port = (server.address() as { port: number }).port
    this.#server = server
    this.#sockets = sockets
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise(resolve => this.#server.close(resolve))
  }
}

/** Piece by piece; what does not get through waits in the sender's socket. */
async function pass(from: Socket, to: Socket, rate: () => number): Promise<void> {
  let freeAtMs = performance.now()
  for await (const chunk of from as AsyncIterable<Buffer>) {
    for (let at = 0; at < chunk.length; at += PIECE_BYTES) {
      const piece = chunk.subarray(at, at + PIECE_BYTES)
      freeAtMs = Math.max(freeAtMs, performance.now()) + (1000 * piece.length) / rate()
      const waitMs = freeAtMs - performance.now()
      if (waitMs > 1) await delay(waitMs)
      to.write(piece)
    }
  }
}
