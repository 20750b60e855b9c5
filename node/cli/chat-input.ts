import { createInterface, type Interface } from 'node:readline'
import { Writable } from 'node:stream'
import { PushedEvents } from '../source/placement/pushed-events.ts'

const PROMPT = '> '
const GOES_ON = '. '
const QUOTES = '"""'
/** Tells a terminal to mark what is pasted, and no longer to. */
const MARK_PASTES = '\u001b[?2004h'
const MARK_NOTHING = '\u001b[?2004l'
const MAX_HISTORY_LINES = 1_000

export interface ChatInputInit {
  input: NodeJS.ReadableStream
  /** Where a terminal shows what is typed; absent: the input is a file or a pipe. */
  output?: NodeJS.WriteStream | undefined
  /** Lines of earlier conversations, the newest first. */
  history?: string[]
  onHistory?: (lines: string[]) => void
}

/**
 * Messages as a person types them: a line each; several lines between triple quotes; what is pasted is one message, however
 * many lines it has, and waits for Enter. From there until the next one is asked for, nothing that is typed is shown.
 */
export class ChatInput {
  readonly #lines: Interface
  readonly #messages = new PushedEvents<{ text: string; isShown: boolean }>()
  readonly #output: NodeJS.WriteStream | undefined
  readonly #shown: Shown | undefined
  #pieces: string[] = []
  #isQuoted = false
  #isPasted = false
  #isOpen = true
  /** Messages that are typed and not yet taken. */
  #waiting = 0

  constructor({ input, output, history = [], onHistory }: ChatInputInit) {
    this.#output = output
    this.#shown = output === undefined ? undefined : new Shown(output)
    const terminal = this.#shown !== undefined
    this.#lines = createInterface({
      input,
      ...(terminal && { output: this.#shown!, terminal, history, historySize: MAX_HISTORY_LINES })
    })
    this.#lines.on('line', line => this.#read(line))
    this.#lines.once('close', () => this.#end())
    if (onHistory !== undefined) this.#lines.on('history', onHistory)
    if (!terminal) return
    output?.write(MARK_PASTES)
    // The input tells of its keys because the interface above reads them.
    input.on('keypress', (_, key: { name?: string } | undefined) => {
      if (key?.name === 'paste-start') this.#isPasted = true
      if (key?.name === 'paste-end') this.#isPasted = false
    })
  }

  /** Calls `interrupt` for each Ctrl-C that is typed. */
  onInterrupt(interrupt: () => void): void {
    this.#lines.on('SIGINT', interrupt)
  }

  /** The messages, until there are no more. What is asked for is shown before each, in a terminal. */
  async *messages(): AsyncGenerator<string> {
    this.#ask()
    for await (const { text, isShown } of this.#messages) {
      this.#waiting--
      if (!isShown) this.#output?.write(`${PROMPT}${text}\n`)
      yield text
      this.#ask()
    }
  }

  close(): void {
    this.#lines.close()
  }

  /** Asks for a message, unless one is there. */
  #ask(): void {
    if (this.#waiting > 0) return
    if (this.#shown !== undefined) this.#shown.isMuted = false
    this.#prompt()
  }

  #prompt(): void {
    if (this.#shown === undefined || !this.#isOpen) return
    this.#lines.setPrompt(this.#pieces.length > 0 || this.#isQuoted ? GOES_ON : PROMPT)
    this.#lines.prompt(true)
  }

  #read(line: string): void {
    if (this.#isPasted) {
      this.#pieces.push(line)
      return
    }
    if (this.#isQuoted) this.#quoted(line)
    else if (this.#pieces.length === 0 && line.trimStart().startsWith(QUOTES)) {
      this.#isQuoted = true
      this.#quoted(line.trimStart().slice(QUOTES.length))
    } else {
      this.#pieces.push(line)
      this.#whole()
    }
  }

  #quoted(line: string): void {
    if (line.trimEnd().endsWith(QUOTES)) {
      this.#pieces.push(line.trimEnd().slice(0, -QUOTES.length))
      this.#whole()
    } else {
      this.#pieces.push(line)
      this.#prompt()
    }
  }

  #whole(): void {
    const text = this.#pieces.join('\n')
    this.#pieces = []
    this.#isQuoted = false
    this.#messages.push({ text, isShown: this.#shown?.isMuted !== true })
    this.#waiting++
    if (this.#shown !== undefined) this.#shown.isMuted = true
  }

  #end(): void {
    this.#isOpen = false
    // The end of a file closes what it has left open.
    if (this.#pieces.length > 0 && this.#shown === undefined) this.#whole()
    this.#output?.write(MARK_NOTHING)
    this.#messages.end()
  }
}

/** What goes to a terminal, but not always. */
class Shown extends Writable {
  readonly #output: NodeJS.WriteStream
  isMuted = false

  constructor(output: NodeJS.WriteStream) {
    super({ decodeStrings: false })
    this.#output = output
    output.on('resize', () => this.emit('resize'))
  }

  get columns(): number {
    return this.#output.columns
  }

  override _write(chunk: string, _: BufferEncoding, done: () => void): void {
    if (!this.isMuted) this.#output.write(chunk)
    done()
  }
}
