import { type AddedToken, isObject, type JsonObject, type TokenizerJson, vocabularyPairs } from './files.ts'

/** Tokens that steer the model (begin, end, turn): a template may write them, text typed by a user never becomes one. */
export interface ControlToken {
  id: number
  content: string
  lstrip: boolean
  rstrip: boolean
}

/** A piece of a rendered template: text to encode, or a control token. */
export type Piece = string | ControlToken

/** They begin and end texts and turns in the supported families, also where a file does not flag them as special. */
const BY_NAME = [
  ...[
    '<s>',
    '</s>',
    '<unk>',
    '<pad>',
    '<|endoftext|>',
    '<|im_start|>',
    '<|im_end|>',
    '<|end|>',
    '<|eot_id|>'
  ],
  ...['<|begin_of_text|>', '<|end_of_text|>', '<|start_header_id|>', '<|end_header_id|>']
]

const NAMED = ['bos_token', 'eos_token', 'unk_token', 'pad_token', 'sep_token', 'cls_token', 'mask_token']

/** Control tokens of a model: flagged special, named by its config, known by name, or ids that begin or end a text. */
export function controlTokens(json: TokenizerJson, config: JsonObject, ids: number[]): ControlToken[] {
  const named = new Set([...BY_NAME, ...NAMED.map(name => tokenContent(config[name]))])
  const { additional_special_tokens: additional } = config
  if (Array.isArray(additional)) for (const token of additional) named.add(tokenContent(token))
  const known = new Set(ids)
  const control = (token: AddedToken) => token.special || named.has(token.content) || known.has(token.id)
  const added = json.added_tokens
    .filter(control)
    .map(({ id, content, lstrip, rstrip }) => ({ id, content, lstrip, rstrip }))
  const seen = new Set(added.map(token => token.id))
  const base = vocabularyPairs(json.model.vocab)
    .filter(([content, id]) => content !== '' && !seen.has(id) && (known.has(id) || named.has(content)))
    .map(([content, id]) => ({ id, content, lstrip: false, rstrip: false }))
  return [...added, ...base]
}

/** A special token in tokenizer_config.json is a string or an object with `content`. */
export function tokenContent(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  return isObject(value) && typeof value.content === 'string' ? value.content : undefined
}

/** Cuts a text at its control tokens: the leftmost, among those the longest. */
export function splitAtControl(text: string, tokens: ControlToken[]): Piece[] {
  if (tokens.length === 0) return [text]
  const byContent = new Map(tokens.map(token => [token.content, token]))
  const contents = [...byContent.keys()].sort((a, b) => b.length - a.length)
  const pattern = new RegExp(`(${contents.map(escaped).join('|')})`)
  const pieces = text.split(pattern).map((part, i) => (i % 2 === 1 ? byContent.get(part)! : part))
  return pieces.map((piece, i) =>
    typeof piece === 'string' ? stripped(piece, pieces[i - 1], pieces[i + 1]) : piece
  )
}

/** Added tokens may take the white space beside them. */
function stripped(text: string, before: Piece | undefined, after: Piece | undefined): string {
  const start = typeof before === 'object' && before.rstrip ? text.trimStart() : text
  return typeof after === 'object' && after.lstrip ? start.trimEnd() : start
}

function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
}
