/**
 * What holding an answer to a form costs: time a token with a JSON schema over time a token without, of one node, in one run.
 * Answers of both kinds take turns. With --link the layers behind the first are on a second node, so many ms away each way.
 *
 *     npm run bench:grammar -- [--tokens N] [--rounds N] [--layers N] [--threads N] [--link MS]
 *
 * Random weights in the shape of TinyLlama 1.1B, 4 bits in blocks of 128, and 32,000 tokens that are made up: the bytes,
 * pieces of words, with a blank before them and without, and what JSON is written with.
 */
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { leaseBytes } from '../../models/runtime/memory.ts'
import type { GenerateRequest } from '../../node/api.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { answer, Nodes, until } from '../fixtures/nodes.ts'
import { storeRandomModel } from '../fixtures/stored-model.ts'
import { delayRelay } from './delay-relay.ts'
import { OWN, SHAPE } from './runtime-models.ts'
import { quantile } from './statistics.ts'

const { values } = commandOptions(import.meta.url, {
  options: {
    tokens: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '9' },
    layers: { type: 'string', default: '22' },
    threads: { type: 'string', default: '1' },
    link: { type: 'string' }
  }
})
const [maxTokens, rounds, decoderLayers, threads] = [
  values.tokens,
  values.rounds,
  values.layers,
  values.threads
].map(Number) as [number, number, number, number]
const AIM = 1.03
const LINK_AIM_MS = 1
const MODEL = 'measured'
const ROOMS = {
  type: 'array',
  minItems: 60,
  items: {
    type: 'object',
    properties: {
      name: { type: 'string' },
      floor: { type: 'integer', minimum: -1, maximum: 40 },
      kind: { enum: ['kitchen', 'hall', 'bath'] },
      open: { type: 'boolean' }
    },
    required: ['name', 'floor', 'kind', 'open'],
    additionalProperties: false
  }
}
const say = (line: string) => process.stdout.write(`${line}\n`)

/** A byte-level vocabulary of so many tokens, of which no text is put together. */
function madeUpTokenizer(size: number): Uint8Array {
  const printable = (byte: number) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173)
  const vocab = new Map<string, number>()
  const add = (text: string) => void (vocab.has(text) || vocab.set(text, vocab.size))
  let next = 256
  const bytes = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++))
  for (const byte of bytes) add(byte)
  for (const piece of ['{"', '":', '",', '"}', '},', '[{', '}]', 'true', 'false', 'null', '00']) add(piece)
  const letters = 'etaoinshrdlcumwfgypbvkjxqz'
  const blank = bytes[32]!
  for (let i = 0; vocab.size < size - 1; i++) {
    const letter = (at: number) => letters[Math.floor(i / 26 ** at) % 26]!
    const word = letter(0) + letter(1) + letter(2)
    add(i % 3 === 0 ? word : i % 3 === 1 ? blank + word : word.toUpperCase() + letter(3))
  }
  const json = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [
      {
        id: size - 1,
        content: '</s>',
        special: true,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false
      }
    ],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab: Object.fromEntries(vocab),
      merges: []
    }
  }
  return new TextEncoder().encode(JSON.stringify(json))
}

await using nodes = new Nodes()
const home = await nodes.home()
const { vocabSize } = SHAPE
const stored = await storeRandomModel(join(home, 'store'), MODEL, { ...SHAPE, decoderLayers }, OWN, {
  files: { 'tokenizer.json': madeUpTokenizer(vocabSize) },
  eosTokenIds: [vocabSize - 1]
})
const linkMs = values.link === undefined ? undefined : Number(values.link)
const plenty = 4 * 2 ** 30
const init = { threads, bundled: false }
await using over = linkMs === undefined ? undefined : await farNode(linkMs)
const node = await nodes.add({
  ...init,
  home,
  memoryBytes: over === undefined ? plenty : sourceBytes(),
  peers: over === undefined ? [] : [over.address]
})
await until(() => node.mesh().peers.filter(({ connected }) => connected).length === (over ? 1 : 0))
if (over !== undefined) await until(() => Object.keys(node.mesh().self.profiles).length > 0)

/** A node with all the memory, behind a relay that holds back what goes either way. */
async function farNode(delayMs: number) {
  const far = await nodes.add({ ...init, memoryBytes: plenty })
  const relay = await delayRelay(Number(/\/tcp\/(\d+)/.exec(far.addresses[0]!)![1]), delayMs)
  return {
    address: `/ip4/127.0.0.1/tcp/${relay.port}/p2p/${far.peerId}`,
    [Symbol.asyncDispose]: () => relay[Symbol.asyncDispose]()
  }
}

/** What the embedding and the first layer take, and not two of them. */
function sourceBytes(): number {
  const { weightBytes, ownBytes } = leaseBytes(stored, [0, 2], { slots: 1, maxTokens: 2 * maxTokens + 64 })
  return Math.ceil(1.4 * (weightBytes + ownBytes))
}

const asked: GenerateRequest = {
  model: MODEL,
  input: { kind: 'raw', text: 'Rooms of a house:' },
  maxTokens,
  temperature: 1
}
interface Timed {
  tpotMs: number
  /** Processor time of all threads of this process, which other programs' load hardly moves. */
  cpuMs: number
}

const timed = async (request: Partial<GenerateRequest>): Promise<Timed> => {
  const before = process.cpuUsage()
  const result = await answer(node, { ...asked, ...request })
  const { user, system } = process.cpuUsage(before)
  const { length: devices } = result.plan.stages
  if (devices !== (over === undefined ? 1 : 2)) throw new Error(`the model is on ${devices} devices`)
  if (result.tokens.length !== maxTokens) throw new Error(`an answer has ${result.tokens.length} tokens`)
  return { tpotMs: result.tpotMs, cpuMs: (user + system) / 1000 / maxTokens }
}
const held = (seed: number) => timed({ seed, constraint: { kind: 'schema', schema: ROOMS } })
const free = (seed: number) => timed({ seed, ignoreEos: true })
// The first ones load the model and compile the grammar.
await free(0)
await held(0)
const times = { held: [] as Timed[], free: [] as Timed[] }
for (let round = 1; round <= rounds; round++) {
  const isFirst = round % 2 === 0
  if (isFirst) times.held.push(await held(round))
  times.free.push(await free(round))
  if (!isFirst) times.held.push(await held(round))
}
const load = loadavg()
  .map(each => each.toFixed(1))
  .join(' ')
say(
  `${decoderLayers} layers, ${linkMs === undefined ? 'one node' : `two nodes ${linkMs} ms apart`}, ${vocabSize} tokens, ${threads} threads, ${rounds} rounds of ${maxTokens} tokens; load ${load}`
)
for (const [what, of] of [
  ['ms a token', ({ tpotMs }: Timed) => tpotMs],
  ['processor time, ms a token', ({ cpuMs }: Timed) => cpuMs]
] as const) {
  const [withForm, without] = [times.held.map(of), times.free.map(of)]
  const more = withForm.map((ms, i) => ms - without[i]!)
  const ratios = withForm.map((ms, i) => ms / without[i]!)
  const [low, high] = [without, withForm].map(list => quantile(list, 0.5).toFixed(2))
  const least = (quantile(withForm, 0) / quantile(without, 0)).toFixed(3)
  say(
    `${what}: ${low} without, ${high} with a schema; ratio ${quantile(ratios, 0.5).toFixed(3)} in the median of rounds, ${least} of the least (aim: ${AIM})`
  )
  const leastMore = quantile(withForm, 0) - quantile(without, 0)
  say(
    `  ${quantile(more, 0.5).toFixed(2)} ms more in the median of rounds, ${leastMore.toFixed(2)} of the least${linkMs === undefined ? '' : ` (aim: ${LINK_AIM_MS})`}`
  )
}
