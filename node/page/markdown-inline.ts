import { type Child, html } from './html.ts'

const MAX_DEPTH = 5
/** Longer marks first. */
const EMPHASES: readonly { mark: string; wrap: (inner: Child[]) => Child }[] = [
  { mark: '**', wrap: inner => html`<strong>${inner}</strong>` },
  { mark: '__', wrap: inner => html`<strong>${inner}</strong>` },
  { mark: '~~', wrap: inner => html`<del>${inner}</del>` },
  { mark: '*', wrap: inner => html`<em>${inner}</em>` },
  { mark: '_', wrap: inner => html`<em>${inner}</em>` }
]
const ADDRESS = /https?:\/\/[^\s<>()[\]]{1,2000}/y

/** Text with emphases, code and links of one block, each at most a few deep. */
export function inlines(text: string, depth = 0): Child[] {
  return depth >= MAX_DEPTH ? [text] : new Inlines(text, depth).read()
}

/** What a part is, and where the text goes on behind it. */
interface Part {
  child: Child
  end: number
}

class Inlines {
  readonly #text: string
  readonly #depth: number
  readonly #out: Child[] = []
  /** Closing marks that do not come any more: looked for once, not at each opening one. */
  readonly #missing = new Set<string>()
  #plain = ''

  constructor(text: string, depth: number) {
    this.#text = text
    this.#depth = depth
  }

  read(): Child[] {
    for (let at = 0; at < this.#text.length; ) {
      const part = this.#partAt(at)
      if (part === undefined) this.#plain += this.#text[at++]
      else {
        if (this.#plain !== '') this.#out.push(this.#plain)
        this.#plain = ''
        this.#out.push(part.child)
        at = part.end
      }
    }
    if (this.#plain !== '') this.#out.push(this.#plain)
    return this.#out
  }

  #partAt(at: number): Part | undefined {
    switch (this.#text[at]) {
      case '\\':
        return this.#escape(at)
      case '`':
        return this.#code(at)
      case '[':
        return this.#link(at + 1)
      case '!':
        return this.#text[at + 1] === '[' ? this.#picture(at) : undefined
      case 'h':
        return this.#address(at)
      case '*':
      case '_':
      case '~':
        return this.#emphasis(at)
      default:
        return undefined
    }
  }

  /** The next place of `mark` from there on, or -1. */
  #find(mark: string, from: number): number {
    if (this.#missing.has(mark)) return -1
    const found = this.#text.indexOf(mark, from)
    if (found < 0) this.#missing.add(mark)
    return found
  }

  #escape(at: number): Part | undefined {
    const next = this.#text[at + 1] ?? ''
    return /[!-/:-@[-`{-~]/.test(next) ? { child: next, end: at + 2 } : undefined
  }

  #code(at: number): Part | undefined {
    let end = at
    while (this.#text[end] === '`') end++
    const mark = '`'.repeat(Math.min(end - at, 8))
    const close = this.#find(mark, at + mark.length)
    if (close < 0) return undefined
    const code = this.#text.slice(at + mark.length, close).trim()
    return { child: html`<code>${code}</code>`, end: close + mark.length }
  }

  #emphasis(at: number): Part | undefined {
    for (const { mark, wrap } of EMPHASES) {
      if (!this.#text.startsWith(mark, at)) continue
      const from = at + mark.length
      const isOpening = /\S/.test(this.#text[from] ?? ' ') && !(mark.startsWith('_') && this.#isInWord(at))
      const close = isOpening ? this.#closing(mark, from) : -1
      if (close <= from) return undefined
      const inner = inlines(this.#text.slice(from, close), this.#depth + 1)
      return { child: wrap(inner), end: close + mark.length }
    }
    return undefined
  }

  /** The mark that closes: of a single one, no half of a double one. */
  #closing(mark: string, from: number): number {
    let close = this.#find(mark, from)
    while (mark.length === 1 && close >= 0 && this.#text[close + 1] === mark) {
      close = this.#text.indexOf(mark, close + 2)
    }
    if (close < 0) this.#missing.add(mark)
    return close
  }

  #isInWord(at: number): boolean {
    return at > 0 && /[\p{L}\p{N}]/u.test(this.#text[at - 1]!)
  }

  /** `[label](address)`: undefined where the text is no link. */
  #bracketed(from: number): { label: string; address: string; end: number } | undefined {
    const middle = this.#find('](', from)
    const close = middle < 0 ? -1 : this.#find(')', middle + 2)
    if (close < 0) return undefined
    const label = this.#text.slice(from, middle)
    const address = this.#text.slice(middle + 2, close).trim()
    return label.includes('[') ? undefined : { label, address, end: close + 1 }
  }

  #link(from: number): Part | undefined {
    const found = this.#bracketed(from)
    if (found === undefined) return undefined
    const inner = inlines(found.label, this.#depth + 1)
    return { child: linked(found.address.split(' ')[0]!, inner), end: found.end }
  }

  #picture(at: number): Part | undefined {
    const found = this.#bracketed(at + 2)
    return found && { child: found.label, end: found.end }
  }

  #address(at: number): Part | undefined {
    ADDRESS.lastIndex = at
    const address = ADDRESS.exec(this.#text)?.[0].replace(/[.,;:!?'"*_~`]+$/, '')
    return address ? { child: linked(address, [address]), end: at + address.length } : undefined
  }
}

/** What leads to the web; any other address is left out, and its label stays. */
function linked(address: string, label: Child[]): Child {
  if (!/^https?:\/\/[^\s]+$/i.test(address)) return label
  return html`<a href=${address} target="_blank" rel="noopener noreferrer">${label}</a>`
}
