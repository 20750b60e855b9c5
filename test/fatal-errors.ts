import { Writable } from 'node:stream'

/** How what Node and V8 write begins when they end their own process, `# Fatal error in ...` or `FATAL ERROR: ...`. */
const BEGINS = /^#? ?fatal error/i
/** Lines of one such report that are kept: the message and the innermost frames of its stack. */
const LINES_KEPT = 30

/** Hands on what is written to it, and keeps what processes write as they end themselves. */
export class FatalErrors extends Writable {
  readonly lines: string[] = []
  readonly #onto: NodeJS.WritableStream
  #rest = ''
  #left = 0

  constructor(onto: NodeJS.WritableStream) {
    super({ decodeStrings: false })
    this.#onto = onto
  }

  override _write(chunk: string | Buffer, _: BufferEncoding, done: () => void): void {
    this.#onto.write(chunk)
    const lines = (this.#rest + chunk.toString()).split('\n')
    this.#rest = lines.pop()!
    for (const line of lines) this.#keep(line)
    done()
  }

  #keep(line: string): void {
    if (BEGINS.test(line)) this.#left = LINES_KEPT
    if (this.#left === 0) return
    this.#left--
    this.lines.push(line)
  }
}
