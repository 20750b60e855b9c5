/** Text of a reply that is not read yet. */
export class Held {
  #text = ''
  /** Nothing more will come. */
  isLast = false

  get text(): string {
    return this.#text
  }

  push(text: string): void {
    this.#text += text
  }

  /** Takes so many characters off the beginning. */
  take(length: number): string {
    const taken = this.#text.slice(0, length)
    this.#text = this.#text.slice(length)
    return taken
  }

  /** Takes white space off the beginning. */
  takeSpace(): string {
    return this.take(this.#text.length - this.#text.trimStart().length)
  }

  /** Takes `mark` if the text begins with it: undefined where that is not known yet. */
  takeMark(mark: string): boolean | undefined {
    if (this.#text.startsWith(mark)) {
      this.take(mark.length)
      return true
    }
    return !this.isLast && mark.startsWith(this.#text) ? undefined : false
  }

  /** Where the first of some marks is, and which; without one `at` is how much certainly begins none. */
  find(marks: readonly string[]): { at: number; mark: string | undefined } {
    let found: { at: number; mark: string | undefined } = { at: Number.POSITIVE_INFINITY, mark: undefined }
    for (const mark of marks) {
      const at = this.#text.indexOf(mark)
      // Of two that begin alike the longer one is meant.
      const isNearer = at < found.at || (at === found.at && mark.length > (found.mark?.length ?? 0))
      if (at >= 0 && isNearer) found = { at, mark }
    }
    const safe = this.isLast ? this.#text.length : this.#text.length - this.#begun(marks)
    // A mark that begins before the found one may still become whole.
    return found.at <= safe ? found : { at: safe, mark: undefined }
  }

  /** Characters at the end that may be the beginning of a mark. */
  #begun(marks: readonly string[]): number {
    let most = 0
    for (const mark of marks) {
      for (let length = Math.min(this.#text.length, mark.length - 1); length > most; length--) {
        if (this.#text.endsWith(mark.slice(0, length))) most = length
      }
    }
    return most
  }
}
