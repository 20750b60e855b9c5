import { afterEach, expect, test } from 'vitest'
import type { Manifest } from '../../../../models/manifest.ts'
import { ModelStore } from '../../../../models/store/store.ts'
import type { NodeRecord } from '../../../../node/api.ts'
import { BUNDLED_DIR } from '../../../../node/bundled.ts'
import { Catalog, type CatalogComponents } from '../../../../node/source/placement/catalog.ts'
import { bundledManifest } from '../../../fixtures/nodes.ts'

const catalogs: Catalog[] = []
afterEach(async () => {
  await Promise.all(catalogs.splice(0).map(catalog => catalog.close()))
})

type HeldModel = NodeRecord['models'][number]

const going = { signal: new AbortController().signal }
const model = (name: string, id = name): HeldModel => ({ name, id, layers: [[0, 5]] })
const record = (peerId: string, models: HeldModel[]) =>
  ({ peerId, name: `${peerId}'s name`, models }) as NodeRecord

/** A catalog of what this node and two peers hold, with the bundled model's manifest and tokenizer for everything. */
async function catalogOf(
  holders: { own?: HeldModel[]; b?: HeldModel[]; gone?: HeldModel[] },
  over: Partial<CatalogComponents['weights']> = {}
) {
  const manifest = await bundledManifest()
  const asked: { id: string; name: string; holders: readonly string[] }[] = []
  const kept: string[] = []
  const said: string[] = []
  const begun: string[] = []
  const started: [id: string, cpuMs: number | undefined][] = []
  const placed = new Set<string>()
  let obtained = 0
  const there = { connected: true, direct: true, suspect: false, lastSeenMs: 0 }
  const catalog = new Catalog({
    onNotice: message => said.push(message),
    store: ModelStore.at(BUNDLED_DIR),
    peers: {
      peerId: 'a',
      self: record('a', holders.own ?? []),
      known: [
        { record: record('b', holders.b ?? []), state: 'connected', ...there, rttMs: 1 },
        { record: record('gone', holders.gone ?? []), state: 'gone', ...there, connected: false, rttMs: null }
      ]
    },
    weights: {
      manifest: async ({ id, name }, holders) => {
        asked.push({ id, name, holders })
        return { manifest, keep: async () => void kept.push(id) }
      },
      obtain: async () => void obtained++,
      ...over
    },
    ownLoads: {
      tokenizerBegins: id => void begun.push(id),
      tokenizerEnds: (...start) => void started.push(start)
    },
    deployments: { isPlaced: id => placed.has(id) }
  })
  catalogs.push(catalog)
  return { catalog, asked, kept, said, begun, started, placed, obtained: () => obtained, manifest }
}

test('a model is found by any name that a connected holder calls it, or its id', async () => {
  const { catalog, asked, kept } = await catalogOf({
    own: [model('mine', 'id1')],
    b: [model('theirs', 'id1'), model('other', 'id2')],
    gone: [model('away', 'id3')]
  })
  for (const name of ['mine', 'theirs']) {
    expect(await catalog.resolve(name, going)).toMatchObject({ name, id: 'id1' })
  }
  expect(await catalog.resolve('id1', going)).toMatchObject({ name: 'mine', id: 'id1' })
  expect(await catalog.resolve('other', going)).toMatchObject({ id: 'id2' })
  expect(asked.at(-1)).toEqual({ id: 'id2', name: 'other', holders: ['b'] })
  // Only what is prompted is kept.
  expect(kept).toEqual(['id1', 'id1', 'id1', 'id2'])
  await expect(catalog.resolve('away', going)).rejects.toMatchObject({
    name: 'UnknownModelError',
    message: expect.stringContaining('there are mine and other')
  })
  const { catalog: ofOne } = await catalogOf({ own: [model('mine', 'id1')] })
  await expect(ofOne.resolve('away', going)).rejects.toMatchObject({
    message: expect.stringContaining('there is only mine. Bring one')
  })
})

const [ONE, TWO] = ['1'.repeat(64), `${'1'.repeat(20)}${'2'.repeat(44)}`]

test('a name that two models of others have means neither, whoever sorts first; their ids do', async () => {
  const { catalog } = await catalogOf({ b: [model('mine', ONE), model('mine', TWO), model('sole', TWO)] })
  await expect(catalog.resolve('mine', going)).rejects.toMatchObject({
    name: 'AmbiguousModelError',
    message: expect.stringMatching(
      /mine is the name of 2 models.*111111111111 on b's name; 111111111111 on b's name/
    )
  })
  expect(await catalog.resolve(ONE, going)).toMatchObject({ name: 'mine', id: ONE })
  expect(await catalog.resolve(TWO.slice(0, 24), going)).toMatchObject({ id: TWO })
  expect(await catalog.resolve('sole', going)).toMatchObject({ id: TWO })
  for (const asked of [TWO.slice(0, 12), TWO.slice(0, 20)]) {
    await expect(catalog.resolve(asked, going)).rejects.toMatchObject({ name: 'AmbiguousModelError' })
  }
  await expect(catalog.resolve(TWO.slice(0, 7), going)).rejects.toMatchObject({ name: 'UnknownModelError' })
  const listed = await catalog.summaries(going)
  expect(listed.map(({ id }) => id)).toEqual([ONE, TWO])
  expect(listed[0]!.holders).toMatchObject([{ peerId: 'b' }])
})

test("a name of the user's own model is that model, and what others call so is said once", async () => {
  const { catalog, said } = await catalogOf({ own: [model('mine', ONE)], b: [model('mine', TWO)] })
  for (let i = 0; i < 2; i++) {
    expect(await catalog.resolve('mine', going)).toMatchObject({ name: 'mine', id: ONE })
  }
  expect(said).toEqual([
    expect.stringMatching(/own model 1{12}; another model has that name, too: 1{12} on b's name/)
  ])
  expect(await catalog.resolve(TWO, going)).toMatchObject({ id: TWO })
})

test('a name that begins as an id does is no way to stand in for it', async () => {
  const { catalog } = await catalogOf({
    b: [model('honest', TWO), model(TWO.slice(0, 24), ONE), model(TWO, ONE)]
  })
  await expect(catalog.resolve(TWO.slice(0, 24), going)).rejects.toMatchObject({
    name: 'AmbiguousModelError'
  })
  expect(await catalog.resolve(TWO, going)).toMatchObject({ id: TWO })
})

test('what a device only caches is found by its id, and is in no list', async () => {
  const { catalog } = await catalogOf({ own: [model(ONE, ONE)], b: [model(TWO, TWO)] })
  expect(await catalog.summaries(going)).toEqual([])
  for (const id of [ONE, TWO]) expect(await catalog.resolve(id, going)).toMatchObject({ name: id, id })
  await expect(catalog.resolve(undefined, going)).rejects.toThrow('there is no model at all')
})

test('without a name it is the bundled one, or the only one that there is', async () => {
  const bundled = model('edgeshard-tiny', 'id1')
  const several = await catalogOf({ own: [model('x')], b: [bundled] })
  expect(await several.catalog.resolve(undefined, going)).toMatchObject({ id: 'id1' })
  const one = await catalogOf({ own: [model('x')] })
  expect(await one.catalog.resolve(undefined, going)).toMatchObject({ id: 'x' })
  const others = await catalogOf({ own: [model('x')], b: [model('y')] })
  await expect(others.catalog.resolve(undefined, going)).rejects.toMatchObject({ name: 'UnknownModelError' })
  const none = await catalogOf({})
  await expect(none.catalog.resolve(undefined, going)).rejects.toThrow('there is no model at all')
})

test('a list says of every model who holds it, asks for each manifest once, and keeps none', async () => {
  const { catalog, asked, kept, manifest } = await catalogOf({
    own: [model('x')],
    b: [model('x'), model('y')]
  })
  const summaries = await catalog.summaries(going)
  expect(summaries).toEqual([
    expect.objectContaining({
      id: 'x',
      decoderLayers: manifest.shape.decoderLayers,
      weightBytes: manifest.layers.reduce((sum, { bytes }) => sum + bytes, 0),
      holders: [
        { peerId: 'a', name: "a's name", layers: [[0, 5]] },
        { peerId: 'b', name: "b's name", layers: [[0, 5]] }
      ]
    }),
    expect.objectContaining({ id: 'y' })
  ])
  await catalog.summaries(going)
  expect([asked.length, kept]).toEqual([2, []])
})

test('a model whose holder does not send its manifest is left out of a list', async () => {
  const manifest = await bundledManifest()
  const { catalog } = await catalogOf(
    { own: [model('x')], b: [model('y')] },
    {
      manifest: async ({ id }) => {
        if (id === 'y') throw new Error('it left')
        return { manifest, keep: async () => {} }
      }
    }
  )
  expect((await catalog.summaries(going)).map(({ id }) => id)).toEqual(['x'])
})

test('a tokenizer is loaded once for all who ask, and whoever leaves meanwhile leaves it to the others', async () => {
  const loading = Promise.withResolvers<void>()
  let obtained = 0
  const { catalog, begun, started } = await catalogOf(
    { own: [model('x')] },
    {
      obtain: async () => {
        obtained++
        await loading.promise
      }
    }
  )
  const abort = new AbortController()
  // Whoever places the model from then on counts on it.
  let begunByThen: string[] | undefined
  const onKnown = () =>
    queueMicrotask(() => {
      begunByThen = [...begun]
    })
  const left = catalog.promptable('x', { signal: abort.signal, onKnown })
  const staying = [catalog.promptable('x', going), catalog.promptable('x', going)]
  await new Promise(setImmediate)
  expect(begunByThen).toEqual(['x'])
  abort.abort(new Error('enough'))
  await expect(left).rejects.toThrow('enough')
  loading.resolve()
  const [one, two] = await Promise.all(staying)
  expect(one!.tokenizer).toBe(two!.tokenizer)
  expect(obtained).toBe(1)
  expect(started).toEqual([['x', one!.tokenizer.startCpuMs]])
  const ids = await one!.tokenizer.encode('a pump', going)
  expect(ids.length).toBeGreaterThan(0)
})

test('a tokenizer that could not be loaded is tried again for the next one', async () => {
  let attempts = 0
  const { catalog, started } = await catalogOf(
    { own: [model('x')] },
    {
      obtain: async () => {
        if (++attempts === 1) throw new Error('nobody delivered it')
      }
    }
  )
  await expect(catalog.promptable('x', going)).rejects.toThrow('nobody delivered it')
  const { name, tokenizer } = await catalog.promptable('x', going)
  expect(name).toBe('x')
  expect(started).toEqual([
    ['x', undefined],
    ['x', tokenizer.startCpuMs]
  ])
})

test('the tokenizer of the model that was prompted last stays while that is placed', async () => {
  const { catalog, placed } = await catalogOf({ own: [model('x'), model('y')] })
  placed.add('x').add('y')
  expect(catalog.mayRest('x')).toBe(true)
  await catalog.promptable('x', going)
  expect(catalog.mayRest('x')).toBe(false)
  placed.delete('x')
  expect(catalog.mayRest('x')).toBe(true)
  placed.add('x')
  await catalog.promptable('y', going)
  expect([catalog.mayRest('x'), catalog.mayRest('y')]).toEqual([true, false])
})

test('the files that a tokenizer needs are fetched from who holds the model, where they are missing', async () => {
  const missing: Manifest['files'] = { 'tokenizer.json': { sha256: 'f'.repeat(64), bytes: 10 } }
  const manifest = { ...(await bundledManifest()), files: missing }
  const wanted: unknown[] = []
  const { catalog } = await catalogOf(
    { b: [model('x')] },
    {
      manifest: async () => ({ manifest, keep: async () => {} }),
      obtain: async (refs, holders, { modelId }) => {
        wanted.push(refs, holders, modelId)
        throw new Error('the test has seen enough')
      }
    }
  )
  await expect(catalog.promptable('x', going)).rejects.toThrow('seen enough')
  expect(wanted).toEqual([Object.values(missing), ['b'], 'x'])
})
