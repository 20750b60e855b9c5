import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { guessingManifest } from '../../models/guessing.ts'
import { modelId, serializeManifest } from '../../models/manifest.ts'
import { heldBytes, leaseBytes } from '../../models/runtime/memory.ts'
import type { GenerateRequest } from '../../node/index.ts'
import { storeGuessingModel } from '../fixtures/guessing-model.ts'
import { answer, ask, Nodes, until } from '../fixtures/nodes.ts'

it('the layer that a model came with guesses what follows, wherever the last stage is, and changes no token', async () => {
  await using nodes = new Nodes()
  const home = await nodes.home()
  const manifest = await storeGuessingModel(join(home, 'store'), 'guessing', { ffnSize: 512 })
  const guessing = guessingManifest(manifest)!
  const room = { slots: 1, maxTokens: 1024 }
  const draftBytes = leaseBytes(guessing, [0, 3], { ...room, keepsAll: true })
  // Beside the draft the source has room for half of the model.
  const half = heldBytes(manifest, [0, 3])
  const memoryBytes = Math.ceil(draftBytes.weightBytes + draftBytes.ownBytes + 1.3 * half)
  const source = await nodes.add({ home, name: 'a', memoryBytes, bundled: false })
  const peers = source.addresses.slice(0, 1)
  const other = await nodes.add({ name: 'b', memoryBytes, peers, bundled: false })
  await until(() => source.mesh().peers.some(({ connected }) => connected))

  const request = (over: Partial<GenerateRequest>) =>
    ask('once upon a time', { model: 'guessing', maxTokens: 32, ignoreEos: true, ...over })
  const guessed = async (over: Partial<GenerateRequest>) => {
    const { tokens, guesses, plan } = await answer(source, request({ ...over, speculate: 'mtp' }))
    const isOwn = plan.stages.map(({ peerId }) => peerId === source.peerId)
    expect(isOwn).toEqual(over.privacy === 'sealed' ? [true, false, true] : [true, false])
    expect(guesses!.sent).toBe(guesses!.held + guesses!.dropped)
    return { tokens, ...guesses! }
  }
  // The last stage on the other device, and on the source.
  const places: Partial<GenerateRequest>[] = [
    { placement: { method: 'cloud-edge-even', cloud: other.peerId } },
    { privacy: 'sealed' }
  ]
  for (const place of places) {
    // The first one hardly waits for the layer to be loaded.
    await until(async () => (await guessed(place)).held > 0)
    for (const sampling of [{ temperature: 0.8, topP: 0.95, seed: 11 }, { exact: true }]) {
      const { tokens } = await guessed({ ...sampling, ...place })
      const plain = await answer(source, request({ ...sampling, ...place }))
      expect(plain.guesses).toBeUndefined()
      expect(tokens).toEqual(plain.tokens)
    }
  }
  // It was the layer that guessed, not what was said before.
  const drafter = modelId(serializeManifest(guessing))
  const counted = JSON.parse(await readFile(join(home, 'profiles', 'acceptance.json'), 'utf8'))
  expect(counted.pairs).toEqual([expect.objectContaining({ drafter, guesses: expect.any(Number) })])
  expect(counted.pairs[0].held).toBeGreaterThan(0)
})
