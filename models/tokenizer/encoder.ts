import { randomInt } from 'node:crypto'
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { chatTemplate, endOfTurn } from './chat-template.ts'
import { type ControlToken, controlTokens, splitAtControl, tokenContent } from './control-tokens.ts'
import { ChatTemplateError, TokenizerError } from './errors.ts'
import {
  isObject,
  type JsonObject,
  readConfig,
  readTokenizerJson,
  type TokenizerJson,
  vocabularyPairs
} from './files.ts'
import { createGuard, hiddenIn } from './guard.ts'
import type { TemplateArguments, TemplateMessage, Vocabulary, WorkerInit } from './messages.ts'
import { takingSystem } from './system-turn.ts'
import { buildVocabulary } from './vocabulary.ts'

/** Text and conversations to token ids. Runs what came with the model, so only in the tokenizer's own process. */
export interface Encoder {
  vocabulary: Vocabulary
  /** The template as the model came with it; null: it has none. */
  chatTemplate: string | null
  /** What the template writes behind a reply. */
  endOfTurnIds: number[]
  /** What stands behind a text to which nothing is to follow. */
  closingId: number | undefined
  encode(text: string): number[]
  encodeChat(messages: TemplateMessage[], args?: TemplateArguments, behind?: string): number[]
}

/** Parts of tokenizer.json that may be left out, but not for the library. */
const ABSENT = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null }

/** Classes of transformers whose `add_bos_token` is true where the configuration leaves it out. */
const ADDS_BOS = /^(Llama|CodeLlama|Gemma|Cohere)Tokenizer(Fast)?$/

/** Other roles could spell a control token where a template writes `<|` + role + `|>`. */
const ROLES = new Set(['system', 'developer', 'user', 'assistant', 'tool', 'function'])

/**
 * @throws {TokenizerError} saying what is wrong, here and in `encode`; {ChatTemplateError} in `encodeChat`.
 */
export function createEncoder(init: WorkerInit): Encoder {
  const encoder = typed(() => encoderOf(init))
  return {
    ...encoder,
    encode: text => typed(() => encoder.encode(text)),
    encodeChat: (...given) => typed(() => encoder.encodeChat(...given))
  }
}

/** What the library throws about a file says nothing of it. */
function typed<T>(run: () => T): T {
  try {
    return run()
  } catch (error) {
    if (error instanceof TokenizerError || error instanceof ChatTemplateError) throw error
    const message = error instanceof Error ? error.message : String(error)
    throw new TokenizerError(`tokenizer.json cannot be used: ${message.slice(0, 300)}`, { cause: error })
  }
}

function encoderOf({ files, bosTokenId, eosTokenIds, vocabSize }: WorkerInit): Encoder {
  const json = withinVocabulary(readTokenizerJson(files), vocabSize)
  const config = readConfig(files)
  const bosId = leadingToken(json, config, bosTokenId)
  const known = [bosTokenId, bosId, ...eosTokenIds].filter(id => id !== undefined)
  const controls = controlTokens(json, config, known)
  const vocabulary = buildVocabulary(json, new Map(controls.map(({ id, content }) => [id, content])))
  const encodePlain = plainEncoder(json, config, controls, vocabulary.offsets.length - 1)
  const template = takingSystem(chatTemplate(files, config))
  return {
    vocabulary,
    chatTemplate: template?.source ?? null,
    closingId: closingToken(json, config),
    endOfTurnIds: template === null ? [] : endOfTurn(template, controls),
    encode: text => [...(bosId === undefined ? [] : [bosId]), ...encodePlain(text, true)],
    encodeChat: (messages, args, behind = '') => {
      if (template === null) {
        throw new ChatTemplateError('the model has no chat template; ask it with a raw prompt')
      }
      const guard = createGuard(controls)
      const guarded = messages.map(({ role, ...said }) => ({
        ...hiddenIn(said, guard),
        role: checkedRole(role)
      }))
      const rendered = template.render(guarded, true, args === undefined ? {} : hiddenIn(args, guard))
      const pieces = splitAtControl(rendered + behind, controls)
      return pieces.flatMap((piece, i) =>
        typeof piece === 'string' ? encodePlain(guard.show(piece), i === 0) : [piece.id]
      )
    }
  }
}

function checkedRole(role: string): string {
  if (!ROLES.has(role))
    throw new ChatTemplateError(`role "${role.slice(0, 40)}" is none of ${[...ROLES].join(', ')}`)
  return role
}

/** The token that every text begins with, as far as the model's files say so. */
function leadingToken(json: TokenizerJson, config: JsonObject, bosTokenId?: number): number | undefined {
  if (config.add_bos_token === false) return undefined
  // Some classes put one before every text unless told otherwise, whatever tokenizer.json says.
  const adds = config.add_bos_token === true || ADDS_BOS.test(String(config.tokenizer_class))
  const own = tokenContent(config.bos_token)
  const bosId = own === undefined ? bosTokenId : (idOf(json, own) ?? bosTokenId)
  if (adds && bosId !== undefined) return bosId
  return specialToken(json, templateOf(json)[0])
}

/** The token that a text ends with to which nothing is to follow, as far as the model's files say so. */
function closingToken(json: TokenizerJson, config: JsonObject): number | undefined {
  if (config.add_eos_token === false) return undefined
  const own = tokenContent(config.eos_token)
  if (config.add_eos_token === true && own !== undefined) return idOf(json, own)
  const parts = templateOf(json)
  return parts.length > 1 ? specialToken(json, parts.at(-1)) : undefined
}

/** What a single text is put into by the tokenizer's own file. */
function templateOf({ post_processor: processor }: TokenizerJson): unknown[] {
  if (!isObject(processor)) return []
  const steps = Array.isArray(processor.processors) ? processor.processors.filter(isObject) : [processor]
  const template = steps.find(step => step.type === 'TemplateProcessing')
  return Array.isArray(template?.single) ? template.single : []
}

function specialToken({ added_tokens }: TokenizerJson, part: unknown): number | undefined {
  if (!isObject(part) || !isObject(part.SpecialToken)) return undefined
  const name = part.SpecialToken.id
  return added_tokens.find(token => token.content === name)?.id
}

function idOf({ added_tokens, model }: TokenizerJson, content: string): number | undefined {
  const added = added_tokens.find(token => token.content === content)
  return added?.id ?? vocabularyPairs(model.vocab).find(([token]) => token === content)?.[1]
}

/** Added tokens that the model has no row for are never written; a base vocabulary that is too large is another model's. */
function withinVocabulary(json: TokenizerJson, vocabSize: number | undefined): TokenizerJson {
  if (vocabSize === undefined) return json
  const beyond = vocabularyPairs(json.model.vocab).find(([, id]) => id >= vocabSize)
  if (beyond) {
    throw new TokenizerError(
      `tokenizer.json does not match the model: "${beyond[0].slice(0, 40)}" has id ${beyond[1]}, the model has ${vocabSize} tokens`
    )
  }
  return { ...json, added_tokens: json.added_tokens.filter(token => token.id < vocabSize) }
}

/**
 * Encodes text in which nothing is a control token. They are taken out of the added tokens and renamed in the
 * vocabulary, so neither splitting nor merging can arrive at one. Ids are below `tokens`, whatever the file says.
 */
function plainEncoder(
  json: TokenizerJson,
  config: JsonObject,
  controls: ControlToken[],
  tokens: number
): (text: string, first: boolean) => number[] {
  const ids = new Set(controls.map(token => token.id))
  const { vocab, unk_token: unknown } = json.model
  const hidden = String.fromCharCode(...Array.from({ length: 16 }, () => randomInt(0xe000, 0xf900)))
  const renamed = (content: string, id: number) =>
    ids.has(id) && content !== unknown ? `${hidden}${content}` : content
  const plainVocab = Array.isArray(vocab)
    ? vocab.map(([piece, score], id) => [id === json.model.unk_id ? piece : renamed(piece, id), score])
    : Object.fromEntries(Object.entries(vocab).map(([token, id]) => [renamed(token, id), id]))
  // A text behind a control token is not the first of its kind: some tokenizers put a space before the first only.
  const separator = {
    id: 1 << 21,
    content: hidden,
    special: false,
    lstrip: false,
    rstrip: false,
    normalized: false
  }
  const added = [...json.added_tokens.filter(token => !ids.has(token.id)), separator]
  const plain = { ...ABSENT, ...json, added_tokens: added, model: { ...json.model, vocab: plainVocab } }
  const tokenizer = new HuggingFaceTokenizer(plain, config)
  return (text: string, first: boolean): number[] => {
    if (text === '') return []
    const encoded = tokenizer.encode(first ? text : hidden + text, { add_special_tokens: false }).ids
    const result: unknown[] = first ? encoded : encoded.slice(1)
    const strange = result.find(id => !Number.isInteger(id) || (id as number) < 0 || (id as number) >= tokens)
    if (strange !== undefined || result.includes(undefined)) {
      throw new TokenizerError(`tokenizer.json gives a part of the text the id ${String(strange)}`)
    }
    return result as number[]
  }
}
