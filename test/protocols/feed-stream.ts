import type { Stream } from '@libp2p/interface'

/** The receiving half of a stream, for tests that feed millions of bytes in pieces of their choice. */
export class FeedStream extends EventTarget {
  readStatus = 'readable'
  readableEnded = false
  error: Error | undefined

  feed(data: Uint8Array): void {
    if (this.error === undefined) this.dispatchEvent(Object.assign(new Event('message'), { data }))
  }

  pause(): void {
    this.readStatus = 'paused'
  }

  resume(): void {
    this.readStatus = 'readable'
  }

  abort(error: Error): void {
    this.error = error
  }

  get stream(): Stream {
    return this as unknown as Stream
  }
}
