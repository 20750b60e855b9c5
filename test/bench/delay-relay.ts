import { connect, createServer, type Server, type Socket } from 'node:net'

/** A TCP relay to a port of this machine that holds back what it passes by so many ms each way, and takes any amount of it. */
export class DelayRelay implements AsyncDisposable {
  readonly port: number
  readonly #server: Server
  readonly #sockets: Set<Socket>

  static async start(target: number, delayMs: number): Promise<DelayRelay> {
    const sockets = new Set<Socket>()
    const server = createServer(near => {
      const far = connect(target, '127.0.0.1')
      for (const [from, to] of [
        [near, far],
        [far, near]
      ] as const) {
        sockets.add(from)
        from.setNoDelay(true)
        from.on('error', () => to.destroy())
        from.on('close', () => to.destroy())
        // Timers of one length end in the order in which they were set.
        from.on('data', data => void setTimeout(() => to.write(data), delayMs))
      }
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    return new DelayRelay(server, sockets)
  }

  private constructor(server: Server, sockets: Set<Socket>) {
    this.port = (server.address() as { port: number }).port
    this.#server = server
    this.#sockets = sockets
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise(resolve => this.#server.close(resolve))
  }
}
