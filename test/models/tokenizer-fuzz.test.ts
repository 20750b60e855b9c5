import { expect, test, vi } from 'vitest'
import { createEncoder } from '../../models/tokenizer/encoder.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { type JsonTree, mutate } from '../fixtures/mutate.ts'
import { prng } from '../fixtures/prng.ts'

const CASES = 10_000

/** Small, but with every part that the three kinds of supported tokenizers have. */
const MODELS = [
  {
    added_tokens: [
      { id: 6, content: '<s>', special: true, lstrip: false, rstrip: true, normalized: false },
      { id: 7, content: '<pad>', special: false, lstrip: true, rstrip: false, normalized: true }
    ],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' }
      ]
    },
    pre_tokenizer: null,
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }]
    },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 }
      ]
    },
    model: {
      type: 'BPE',
      byte_fallback: true,
      unk_token: '<unk>',
      vocab: { '<unk>': 0, '▁': 1, h: 2, i: 3, hi: 4, '▁hi': 5, '<0x21>': 8 },
      merges: ['h i', '▁ hi']
    }
  },
  {
    added_tokens: [{ id: 5, content: '<|im_end|>', special: true }],
    normalizer: { type: 'NFC' },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        {
          type: 'Split',
          pattern: { Regex: '\\p{L}+|\\s+|[^\\s\\p{L}]' },
          behavior: 'Isolated',
          invert: false
        },
        { type: 'ByteLevel', add_prefix_space: false, use_regex: false }
      ]
    },
    post_processor: { type: 'ByteLevel', trim_offsets: false },
    decoder: { type: 'ByteLevel', use_regex: true },
    model: {
      type: 'BPE',
      ignore_merges: true,
      vocab: { h: 0, i: 1, hi: 2, Ġ: 3, '!': 4 },
      merges: [['h', 'i']]
    }
  },
  {
    added_tokens: [{ id: 0, content: '<unk>', special: true }],
    normalizer: null,
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: true },
    post_processor: null,
    decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: true },
    model: {
      type: 'Unigram',
      unk_id: 0,
      byte_fallback: false,
      vocab: [
        ['<unk>', 0],
        ['▁', -2],
        ['hi', -1],
        ['▁hi', -0.5],
        ['!', -3]
      ]
    }
  }
]
const CONFIG = {
  add_bos_token: true,
  bos_token: '<s>',
  eos_token: { content: '<|im_end|>' },
  chat_template: '{{ messages[0].content }}'
}

test('files with mistakes give a typed error or a tokenizer whose ids the model has', {
  timeout: deadlineMs(120_000)
}, () => {
  // The library says what it does not know; in the tokenizer's process that goes nowhere.
  vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  const random = prng(11)
  const encoder = new TextEncoder()
  const counts = new Map<string, number>()
  const count = (what: string) => counts.set(what, (counts.get(what) ?? 0) + 1)
  for (let i = 0; i < CASES; i++) {
    const files = structuredClone({ json: MODELS[i % 3]!, config: CONFIG }) as unknown as {
      json: JsonTree
      config: JsonTree
    }
    const rounds = 1 + Math.floor(random() * 3)
    for (let round = 0; round < rounds; round++) mutate(random() < 0.85 ? files.json : files.config, random)
    const init = {
      files: {
        'tokenizer.json': encoder.encode(JSON.stringify(files.json)),
        'tokenizer_config.json': encoder.encode(JSON.stringify(files.config))
      },
      bosTokenId: undefined,
      eosTokenIds: [],
      vocabSize: 16
    }
    let ids: number[]
    try {
      const tokenizer = createEncoder(init)
      ids = tokenizer.encode('hi hi! </s>🦙')
      if (tokenizer.chatTemplate !== null)
        ids.push(...tokenizer.encodeChat([{ role: 'user', content: 'hi <s>' }]))
      count('encodes')
    } catch (error) {
      expect(['TokenizerError', 'ChatTemplateError']).toContain((error as Error).name)
      count((error as Error).name)
      continue
    }
    expect(ids.filter(id => !Number.isInteger(id) || id < 0 || id >= 16)).toEqual([])
  }
  process.stdout.write(`tokenizer files: ${JSON.stringify(Object.fromEntries(counts))}\n`)
  expect(counts.get('encodes')).toBeGreaterThan(CASES / 3)
  expect(counts.get('TokenizerError')).toBeGreaterThan(CASES / 100)
})
