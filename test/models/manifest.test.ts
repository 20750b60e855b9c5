import { describe, expect, it } from 'vitest'
import { LLAMA_BLOCK } from '../../models/import/architectures/architecture.ts'
import {
  type Block,
  checkShape,
  type Manifest,
  modelId,
  parseManifest,
  serializeManifest
} from '../../models/manifest.ts'
import type { StoredModel } from '../../models/store/catalog.ts'
import { ModelStore } from '../../models/store/store.ts'
import { BUNDLED_DIR } from '../../node/bundled.ts'
import { LATENT, randomModel, TINY_SHAPE } from '../fixtures/random-model.ts'

await using model = await randomModel({ optional: ['qkv_bias'] })
const { manifest } = model
const bytes = serializeManifest(manifest)

function changed(change: (manifest: Manifest) => void): Uint8Array {
  const copy = structuredClone(manifest)
  change(copy)
  return serializeManifest(copy)
}

describe('parseManifest', () => {
  it('gives back what was serialised, and the same id whatever the order of keys', () => {
    expect(parseManifest(bytes)).toEqual(manifest)
    const shuffled = Object.fromEntries(Object.entries(manifest).reverse()) as unknown as Manifest
    expect(modelId(serializeManifest(shuffled))).toBe(modelId(bytes))
  })

  it.each<[string, (m: Manifest) => void, RegExp]>([
    ['too few layers', m => m.layers.pop(), /4 layers listed, 3 decoder layers and two more/],
    ['a layer of the wrong kind', m => (m.layers[1]!.kind = 'head'), /layer 1 is called head/],
    [
      'a tensor outside its file',
      m => (m.layers[1]!.tensors[1]!.offset = 2 ** 30),
      /layer 1: tensor qkv: .* at 1073741824/
    ],
    ['tensors that overlap', m => (m.layers[1]!.tensors[1]!.offset = 0), /layer 1: tensor qkv/],
    ['an offset that is not aligned', m => (m.layers[1]!.tensors[1]!.offset += 4), /multiple of 64/],
    [
      'another shape',
      m => m.layers[0]!.tensors[0]!.shape.reverse(),
      /layer 0: tensor embedding: float32 \(64, 160\)/
    ],
    [
      'more bytes than the shape has',
      m => (m.layers[0]!.tensors[0]!.bytes += 64),
      /layer 0: tensor embedding/
    ],
    ['a file longer than its tensors', m => (m.layers[0]!.bytes += 64), /its tensors end at/],
    ['a missing tensor', m => m.layers[2]!.tensors.splice(1, 1), /tensor qkv is missing/],
    ['a tensor too many', m => m.layers[0]!.tensors.push(m.layers[0]!.tensors[0]!), /does not belong/],
    [
      'one of two norms',
      m =>
        m.layers[1]!.tensors.splice(3, 0, {
          name: 'q_norm',
          type: 'float32',
          shape: [16],
          offset: 0,
          bytes: 64
        }),
      /q_norm|layer 1/
    ],
    ['a hash that is a path', m => (m.layers[0]!.sha256 = '../../etc/passwd'), /not a SHA-256/],
    ['a file name that is a path', m => (m.files['../evil'] = m.layers[0]!), /files/],
    [
      'a token outside the vocabulary',
      m => m.eosTokenIds.push(160),
      /token id 160 is outside the vocabulary of 160/
    ],
    ['heads that do not divide', m => (m.shape.kvHeads = 3), /not a multiple/],
    ['an unknown version', m => ((m as { version: number }).version = 3), /version: is neither 1 nor 2/],
    [
      'an activation that it does not know',
      m => ((m.shape.blocks[0]!.feedForward as { activation: string }).activation = 'relu6'),
      /shape\.blocks\.0\.feedForward\.activation: "relu6" is not known here; known are silu, gelu, gelu-tanh/
    ],
    [
      'a kind of attention that it does not know',
      m => ((m.shape.blocks[0]!.attention as { kind: string }).kind = 'gated-delta'),
      /attention\.kind: "gated-delta" is not known here/
    ],
    [
      'a norm that it does not know',
      m => ((m.shape as { normKind: string }).normKind = 'l2'),
      /normKind: "l2" is not known here; known are rms, layer/
    ],
    [
      'a property of a block that it does not know',
      m => ((m.shape.blocks[0]!.attention as Record<string, unknown>).registers = true),
      /shape\.blocks\.0\.attention: Unrecognized key: "registers"/
    ],
    ['a window that hides nothing', m => (m.shape.blocks[0]!.attention.window = 128), /shortest form/],
    [
      'a size that is its own and no other',
      m => (m.shape.blocks[0]!.attention.headSize = 16),
      /shortest form/
    ],
    ['a scale that is the usual one', m => (m.shape.blocks[0]!.attention.scale = 0.25), /shortest form/],
    [
      'heads of a block that do not divide',
      m => (m.shape.blocks[0]!.attention.kvHeads = 3),
      /not a multiple/
    ],
    ['more turned than a head has', m => (m.shape.rope.rotated = 18), /rope does not fit/],
    [
      'divisors for another head',
      m => (m.shape.rope.scaling = { type: 'divided', divisors: [1, 2], magnitude: 1 }),
      /rope does not fit/
    ],
    ['a layer of a block that there is not', m => (m.shape.layout = [1]), /layout names blocks/],
    ['a longer layout than is needed', m => (m.shape.layout = [0, 0]), /shortest form/],
    ['a block that no layer has', m => m.shape.blocks.push(LLAMA_BLOCK), /shortest form/],
    [
      'another block than its tensors',
      m => (m.shape.blocks = [LLAMA_BLOCK]),
      /layer 1: tensor attention_output is/
    ],
    ['a size beyond all bounds', m => (m.shape.hiddenSize = 2 ** 40), /hiddenSize/],
    [
      'sizes that each might be, in a projection',
      m => Object.assign(m.shape, { hiddenSize: 2 ** 16, ffnSize: 2 ** 18 }),
      /multiply/
    ],
    [
      'sizes that each might be, in a vocabulary',
      m => Object.assign(m.shape, { hiddenSize: 2 ** 16, vocabSize: 2 ** 21 }),
      /multiply/
    ],
    [
      'sizes that each might be, in heads',
      m => Object.assign(m.shape, { heads: 1024, kvHeads: 1024, headSize: 1024 }),
      /multiply/
    ],
    [
      'more bytes beside the weights than are read at once',
      m => {
        for (const name of ['a', 'b']) m.files[name] = { sha256: '0'.repeat(64), bytes: 2 ** 26 + 1 }
      },
      /files: has more than 134217728 bytes/
    ]
  ])('refuses %s', (_, change, message) => {
    expect(() => parseManifest(changed(change))).toThrow(message)
  })

  it('refuses fields that it does not know, other JSON, other bytes, and a manifest of any length', () => {
    const text = new TextDecoder().decode(bytes)
    const encode = (s: string) => new TextEncoder().encode(s)
    for (const [input, message] of [
      [encode(text.replace('"version":2', '"version":2,"extra":0')), /Unrecognized key/],
      [encode(` ${text}`), /canonical/],
      [encode('[]'), /document: Invalid input/],
      [encode('['.repeat(100_000)), /not JSON/],
      [Uint8Array.of(0xff), /not JSON/],
      [new Uint8Array(9 * 1024 * 1024), /more than the limit/]
    ] as const) {
      expect(() => parseManifest(input)).toThrow(message)
      expect(() => parseManifest(input)).toThrow(expect.objectContaining({ name: 'ManifestError' }))
    }
  })
})

describe('a manifest of latent vectors', () => {
  const sound = () => structuredClone({ ...TINY_SHAPE, ...LATENT })
  type Changed = ReturnType<typeof sound>
  const first = (shape: Changed) => shape.blocks[0]!.attention
  const experts = (shape: Changed) =>
    shape.blocks[1]!.feedForward as Extract<Block['feedForward'], { kind: 'experts' }>

  it.each<[string, (shape: Changed) => unknown, RegExp]>([
    ['a kind without its sizes', s => delete first(s).latent, /latent does not go with the kind/],
    ['sizes without the kind', s => (first(s).kind = 'grouped-query'), /latent does not go with the kind/],
    ['a window', s => (first(s).window = 5), /latent does not go with the kind, or with the rest/],
    ['biases', s => (first(s).bias = 'qkv'), /latent does not go with/],
    ['sinks', s => (first(s).sinks = true), /latent does not go with/],
    ['norms of values', s => (first(s).valueNorm = true), /latent does not go with/],
    ['a gate', s => (first(s).outputGate = true), /latent does not go with/],
    ['norms of heads', s => (first(s).queryKeyNorm = 'head'), /latent does not go with/],
    ['no positions', s => (first(s).rotary = 'none'), /latent does not go with/],
    ['several heads of a cache', s => (s.kvHeads = 2), /latent does not fit the heads/],
    ['a cache of another size', s => (s.headSize = 160), /latent does not fit the heads/],
    ['a latent vector of another size', s => (first(s).latent!.size = 120), /latent does not fit the heads/],
    ['all of it turned', s => delete s.rope.rotated, /latent does not fit the heads/],
    ['a size beyond all bounds', s => (first(s).latent!.unturned = 2 ** 20), /latent\.unturned/],
    [
      'sizes that each might be',
      s => Object.assign(s, { heads: 512, hiddenSize: 64 }) && (first(s).latent!.value = 1024),
      /multiply|latent does not fit/
    ],
    [
      'a field that is not known',
      s => Object.assign(first(s).latent!, { rank: 1 }),
      /Unrecognized key: "rank"/
    ],
    ['groups that are not equal', s => (experts(s).groups!.count = 3), /groups do not fit/],
    ['all groups', s => (experts(s).groups!.used = 4), /groups do not fit/],
    ['groups of too few experts', s => Object.assign(experts(s), { used: 5 }), /groups do not fit/],
    ['groups of one, by their best two', s => (experts(s).groups!.count = 8), /groups do not fit/],
    [
      'a score of groups that is not known',
      s => ((experts(s).groups as { score: string }).score = 'mean'),
      /score: "mean" is not known here; known are highest, best-two/
    ]
  ])('is refused with %s', (_, change, message) => {
    const shape = sound()
    expect(() => checkShape(shape)).not.toThrow()
    change(shape)
    expect(() => checkShape(shape)).toThrow(message)
  })
})

describe('version 1', () => {
  it('is read as the newest shape, and written as the bytes that its id was taken of', async () => {
    const [{ id, manifest: bundled }] = (await ModelStore.at(BUNDLED_DIR).list()) as [StoredModel]
    expect(bundled.version).toBe(1)
    expect(bundled.shape).toMatchObject({ normKind: 'rms', blocks: [LLAMA_BLOCK], layout: [0] })
    expect(modelId(serializeManifest(bundled))).toBe(id)
  })

  it('has the biases and norms that its tensors have', async () => {
    await using other = await randomModel({ optional: ['q_norm', 'k_norm'] })
    for (const { shape, ...rest } of [manifest, other.manifest]) {
      const old = serializeManifest({ ...rest, shape, version: 1 })
      expect(new TextDecoder().decode(old)).not.toContain('blocks')
      expect(parseManifest(old)).toEqual({ ...rest, shape, version: 1 })
    }
  })

  it('is refused where only some tensors of a layer are there', () => {
    const copy = structuredClone(manifest)
    copy.layers[1]!.tensors[2]!.name = 'k_norm'
    expect(() => parseManifest(serializeManifest({ ...copy, version: 1 }))).toThrow(
      /layer 1: tensor attention_output is missing/
    )
  })
})
