/** A template without its {% raw %} blocks, and what stood in them. */
export interface Cut {
  text: string
  /** By the name of the variable that is written in a block's place. */
  raw: Record<string, string>
}

const RAW = /([ \t]*)\{%([-+]?)\s*raw\s*(-?)%\}([\s\S]*?)\{%([-+]?)\s*endraw\s*([-+]?)%\}(\n?)/g

/** Takes {% raw %} blocks out, which the library's parser would read as a template. */
export function cutRaw(source: string): Cut {
  const raw: Record<string, string> = {}
  const text = source.replace(
    RAW,
    (_, before: string, left, innerLeft, body: string, innerRight, right, newline: string, at: number) => {
      const name = `raw block ${Object.keys(raw).length}`
      const start = innerLeft === '-' ? body.trimStart() : body
      raw[name.replaceAll(' ', '_')] =
        innerRight === '-'
          ? start.trimEnd()
          : innerRight === '+'
            ? start
            : start.replace(/(^|\n)[ \t]+$/, '$1')
      const ownLine = at === 0 || source[at - 1] === '\n'
      const kept = left !== '+' && ownLine ? '' : before
      const open = left === '-' ? '{{-' : '{{'
      const close = right === '-' ? '-}}' : '}}'
      return `${kept}${open} ${name.replaceAll(' ', '_')} ${close}${right === '+' ? newline : ''}`
    }
  )
  return { text, raw }
}
