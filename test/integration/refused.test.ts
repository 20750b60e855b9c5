import { rm, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { answer, ask, bundledManifest, Nodes, SECRET } from '../fixtures/nodes.ts'

const PROMPT = 'What does a thermostat do?'

describe('what cannot be answered is refused with a reason', () => {
  it('a prompt that fills the context', async () => {
    await using nodes = new Nodes()
    const node = await nodes.add({ name: 'alone' })
    await expect(answer(node, ask('word '.repeat(5000)))).rejects.toMatchObject({
      name: 'ContextLengthError',
      message: expect.stringMatching(/the prompt has \d+ tokens, but .* has a context of \d+: shorten it/)
    })
  })

  it('an id that no device would take', async () => {
    await using nodes = new Nodes()
    const node = await nodes.add()
    const events = node.generate(ask(PROMPT), { requestId: 'order 17' })
    await expect(events.next()).rejects.toMatchObject({ name: 'RequestError', param: 'requestId' })
  })

  it('a model that nobody holds', async () => {
    await using nodes = new Nodes()
    const node = await nodes.add({ bundled: false })
    await expect(answer(node, ask(PROMPT))).rejects.toMatchObject({ name: 'UnknownModelError' })
  })

  it('a model that fits nowhere, with what it needs and what there is', async () => {
    await using nodes = new Nodes()
    const [a] = await nodes.mesh(['a', 'b'], 0.2)
    await expect(answer(a!, ask(PROMPT))).rejects.toMatchObject({
      name: 'PlanRefusedError',
      message: expect.stringMatching(/fits nowhere: .*needs .*\d.*; it would fit with .* more on [ab]$/)
    })
  })

  it.each([
    ['missing', (path: string) => rm(path)],
    ['cut short', (path: string) => truncate(path, 100)]
  ])('a weight file that is %s: the node says which, and serves on', async (_, damage) => {
    await using nodes = new Nodes()
    const home = await nodes.home()
    const node = await nodes.add({ home })
    const { sha256 } = (await bundledManifest()).layers[3]!
    await damage(join(home, 'store', 'blobs', sha256))
    await expect(answer(node, ask(PROMPT))).rejects.toThrow(sha256.slice(0, 12))
    expect((await node.models()).length).toBe(1)
    expect(node.mesh().leases).toEqual([])
  })

  it('a stranger: no peer, no model, no word', async () => {
    await using nodes = new Nodes()
    const a = await nodes.add({ name: 'a' })
    const stranger = await nodes.add({
      home: await nodes.home(new Uint8Array(SECRET.length).fill(9)),
      bundled: false,
      peers: a.addresses
    })
    await new Promise(resolve => setTimeout(resolve, 1000))
    expect(stranger.mesh().peers).toEqual([])
    expect(a.mesh().peers).toEqual([])
    await expect(answer(stranger, ask(PROMPT))).rejects.toMatchObject({ name: 'UnknownModelError' })
  })
})
