/** How a family cuts text before merging: what its own tokenizer.json says. */
export interface PreTokenizer {
  /** Each cuts what the one before has left in one piece. Absent: GPT-2's own. */
  patterns?: readonly string[]
  /** Cut behind the patterns as GPT-2 does, too. */
  asGpt2?: boolean
  normalizer?: object
  /** A piece that is a token as a whole is not built from merges. */
  ignoreMerges?: boolean
  addsBos?: boolean
}

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
const SPACES = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'
const TAIL = ` ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${SPACES}`
const TAIL_WITH_SLASHES = ` ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${SPACES}`
const WORD = '[^\\r\\n\\p{L}\\p{N}]?\\p{L}+'
const UPPER = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]'
const LOWER = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]'
/** Words of one case, or with an upper-case beginning. */
const cased = (end: string) =>
  `[^\\r\\n\\p{L}\\p{N}]?${UPPER}*${LOWER}+${end}|[^\\r\\n\\p{L}\\p{N}]?${UPPER}+${LOWER}*${end}`
const CJK = '[一-龥ࠀ-一가-퟿]+'
const GPT_2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"
const NFC = { type: 'NFC' }

const THREE_DIGITS = `${CONTRACTIONS}|${WORD}|\\p{N}{1,3}|${TAIL}`
const ONE_DIGIT = `${CONTRACTIONS}|${WORD}|\\p{N}|${TAIL}`

const LLAMA_3: PreTokenizer = { patterns: [THREE_DIGITS], ignoreMerges: true, addsBos: true }
const CL100K: PreTokenizer = { patterns: [THREE_DIGITS] }
const QWEN_2: PreTokenizer = { patterns: [ONE_DIGIT], normalizer: NFC }
const O200K: PreTokenizer = { patterns: [`${cased(`${CONTRACTIONS}?`)}|\\p{N}{1,3}|${TAIL_WITH_SLASHES}`] }
const DIGITS_APART: PreTokenizer = { patterns: ['\\p{N}'], asGpt2: true }
const DEEPSEEK_WORD =
  '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+'
const DEEPSEEK_3: PreTokenizer = {
  patterns: ['\\p{N}{1,3}', '[一-龥぀-ゟ゠-ヿ]+', `${DEEPSEEK_WORD}| ?[\\p{P}\\p{S}]+[\\r\\n]*|${SPACES}`]
}
const BAILING: PreTokenizer = {
  patterns: [
    `'(?i:[sdmt]|ll|ve|re)|${WORD}|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+`
  ]
}
/** Cohere's newer ones: digits in threes counted from the last one, where no letter follows; then as O200K's. */
const THREES_FROM_BEHIND: PreTokenizer = {
  patterns: ['\\p{Nd}{1,3}(?=(?:\\p{Nd}{3})*(?![\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]))', ...O200K.patterns!]
}
/** Runs of spaces in powers of two. */
const HALVED_SPACES = [512, 256, 128, 64, 32, 16, 8, 4].map(count => `\\s{${count}}(?!\\S)`).join('|')
const NOT_HAN = '(?!\\p{Script=Han})'
const KIMI_UPPER = `(?:${NOT_HAN}[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}])`
const KIMI_LOWER = `(?:${NOT_HAN}[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}])`
/** Moonshot's: as O200K's, with Chinese characters apart (`tokenization_kimi.py`). */
export const KIMI: PreTokenizer = {
  patterns: [
    `\\p{Script=Han}+|[^\\r\\n\\p{L}\\p{N}]?${KIMI_UPPER}*${KIMI_LOWER}+${CONTRACTIONS}?|` +
      `[^\\r\\n\\p{L}\\p{N}]?${KIMI_UPPER}+${KIMI_LOWER}*${CONTRACTIONS}?|\\p{N}{1,3}|${TAIL}`
  ],
  ignoreMerges: true
}
const PUNCTUATION_APART = ' ?[^(\\s|.,!?…。，、।۔،)]+'

/** By `tokenizer.ggml.pre`; a family that is not here would be cut wrongly without a word. */
export const PRE_TOKENIZERS: Readonly<Record<string, PreTokenizer>> = {
  'llama-bpe': LLAMA_3,
  llama3: LLAMA_3,
  'llama-v3': LLAMA_3,
  falcon3: LLAMA_3,
  'falcon-h1': LLAMA_3,
  pixtral: LLAMA_3,
  'midm-2.0': LLAMA_3,
  lfm2: LLAMA_3,
  'jina-v5-nano': LLAMA_3,
  dbrx: CL100K,
  'smaug-bpe': CL100K,
  glm4: CL100K,
  'chatglm-bpe': CL100K,
  qwen2: QWEN_2,
  'deepseek-r1-qwen': QWEN_2,
  qwen35: {
    patterns: [
      `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|${SPACES}`
    ],
    normalizer: NFC
  },
  stablelm2: { patterns: [ONE_DIGIT] },
  hunyuan: { patterns: [ONE_DIGIT] },
  'solar-open': { patterns: [ONE_DIGIT] },
  // llama.cpp says no more of these two, and nothing of a normaliser.
  kormo: { patterns: [ONE_DIGIT] },
  megrez: { patterns: [ONE_DIGIT] },
  'grok-2': { patterns: [ONE_DIGIT] },
  'gpt-4o': O200K,
  llama4: O200K,
  'minimax-m2': O200K,
  kanana2: O200K,
  talkie: O200K,
  'gpt-2': {},
  'phi-2': {},
  mpt: {},
  olmo: {},
  exaone4: {},
  gigachat: {},
  'a.x-4.0': {},
  mellum: {},
  jais: {},
  trillion: {},
  'granite-docling': {},
  smollm: DIGITS_APART,
  refact: DIGITS_APART,
  starcoder: DIGITS_APART,
  'command-r': DIGITS_APART,
  codeshell: DIGITS_APART,
  exaone: DIGITS_APART,
  'minerva-7b': DIGITS_APART,
  mellum2: DIGITS_APART,
  tekken: {
    patterns: [`${cased('')}|\\p{N}|${TAIL_WITH_SLASHES}`],
    ignoreMerges: true,
    addsBos: true
  },
  // Letters that have a case; the file lists them one by one.
  'deepseek-llm': {
    patterns: [
      '[\\r\\n]',
      '\\s?[\\p{Lu}\\p{Ll}\\p{Lt}]+',
      '\\s?[!-/:-~！-／：-～‘-‟　-。]+',
      '\\s+$',
      CJK,
      '\\p{N}+'
    ]
  },
  'deepseek-coder': { patterns: ['[\\r\\n]', '\\s?\\p{L}+', '\\s?\\p{P}+', CJK, '\\p{N}'] },
  'deepseek-v3': DEEPSEEK_3,
  'kimi-k2': KIMI,
  'hunyuan-dense': DEEPSEEK_3,
  'joyai-llm': DEEPSEEK_3,
  hy_v4: DEEPSEEK_3,
  falcon: { patterns: ['[\\p{P}\\$\\+<=>\\^~\\|`]+', GPT_2, '[0-9][0-9][0-9]'] },
  // llama.cpp's own rule for files whose family its converter did not know.
  default: { patterns: ['[\\p{P}\\$\\+<=>\\^~\\|]+', GPT_2, '\\p{N}+', '[0-9][0-9][0-9]'] },
  bloom: { patterns: [PUNCTUATION_APART] },
  'poro-chat': { patterns: [PUNCTUATION_APART] },
  'gpt3-finnish': { patterns: [PUNCTUATION_APART] },
  viking: { patterns: [PUNCTUATION_APART, '\\p{N}'] },
  'seed-coder': {
    patterns: [`${CONTRACTIONS}|${WORD}|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|${SPACES}`]
  },
  bailingmoe: BAILING,
  bailingmoe2: BAILING,
  'llada-moe': BAILING,
  tiny_aya: THREES_FROM_BEHIND,
  cohere2moe: THREES_FROM_BEHIND,
  'jais-2': {
    patterns: [
      `${CONTRACTIONS}|${WORD}|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|${HALVED_SPACES}|\\s{1,2}(?!\\S)|\\s`
    ]
  },
  minicpm5: { patterns: ['\\p{N}{1,3}', `${CONTRACTIONS}|${WORD}|\\p{N}+|${TAIL}`], ignoreMerges: true },
  spark2_5: {
    patterns: [
      ...DEEPSEEK_3.patterns!.slice(0, 2),
      `${DEEPSEEK_WORD}| ?[\\p{P}\\p{S}]+|[\\r\\n]|\\s+(?!\\S)|\\s+`,
      '\\p{N}'
    ]
  },
  youtu: {
    patterns: [
      '[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+',
      `${cased(`${CONTRACTIONS}?`)}|\\p{N}|${TAIL_WITH_SLASHES}`
    ],
    ignoreMerges: true
  },
  // Suffixes behind Turkish apostrophes stay with their words.
  ufakzeka: { patterns: [`${WORD}|\\p{N}|${TAIL}`] },
  laguna: { patterns: ['[^\\n]+|\\n+', ONE_DIGIT] },
  'exaone-moe': {
    patterns: [
      `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}|` +
        ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+'
    ]
  }
}
