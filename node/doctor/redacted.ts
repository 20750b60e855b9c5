/** What the person calls things: `paths` of folders, `names` of the device and its user. */
export interface Private {
  paths: readonly string[]
  names: readonly string[]
}

/** Shorter names are words of the language more often than names. */
const LEAST_NAME_CHARS = 3

/** In this order: what is part of a longer thing goes with it. */
const PATTERNS: readonly [pattern: RegExp, instead: string][] = [
  [/\b[a-z][a-z0-9+.-]*:\/\/\S+/gi, '<address>'],
  [/\/(?:ip4|ip6|dns[46]?|dnsaddr)\/\S+/gi, '<address>'],
  [/\b(?:12D3KooW|16Uiu2|Qm)[1-9A-HJ-NP-Za-km-z]{16,}\b/g, '<peer>'],
  [/\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?\b/g, '<address>'],
  [/(?<![\w:])(?:[0-9a-f]{0,4}:){2,}[0-9a-f:.]*(?:%\w+)?/gi, '<address>'],
  [/(?<![\w.<])(?:[a-z]:\\|\\\\|~?\/)[^\s'"`(),;]+/gi, '<path>'],
  [/\b[\w+=-]{20,}\b/g, '<token>']
]

/** A text without paths, names, addresses, ids and what might be a token: rather too little is left than too much. */
export function redacted(text: string, { paths, names }: Private): string {
  let rest = text
  for (const path of [...paths].sort((a, b) => b.length - a.length)) {
    if (path.length > 1) rest = rest.replaceAll(path, '/home')
  }
  for (const name of names) {
    if (name.length < LEAST_NAME_CHARS) continue
    const literal = name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
    rest = rest.replace(new RegExp(`(?<![\\w-])${literal}(?![\\w-])`, 'gi'), '<name>')
  }
  for (const [pattern, instead] of PATTERNS) rest = rest.replace(pattern, instead)
  return rest
}
