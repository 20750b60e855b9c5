import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { TcpRelay } from '../../fixtures/tcp-relay.ts'

const PIECE_BYTES = 1250

/** A relay to a port of this machine that passes so many bytes a second each way, like a slow link. */
export class SlowRelay implements AsyncDisposable {
  /** The rate from the next piece on. */
  bytesPerSecond: number
  #relay!: TcpRelay

  static async start(target: number, bytesPerSecond: number): Promise<SlowRelay> {
    const slow = new SlowRelay(bytesPerSecond)
    slow.#relay = await TcpRelay.start(target, (from, to) => {
      void pass(from, to, () => slow.bytesPerSecond).catch(() => to.destroy())
    })
    return slow
  }

  private constructor(bytesPerSecond: number) {
    this.bytesPerSecond = bytesPerSecond
  }

  get port(): number {
    return this.#relay.port
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#relay[Symbol.asyncDispose]()
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
