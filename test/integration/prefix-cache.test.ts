import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { kvBytes } from '../../models/runtime/memory.ts'
import { answer, bundledManifest, bundledShare, CONTEXT_TOKENS, Nodes, until } from '../fixtures/nodes.ts'

const PROMPT_TOKENS = 128
const promptOf = (kind: number) =>
  Array.from({ length: PROMPT_TOKENS }, (_, i) => 20 + ((i * 7 + 31 * kind) % 200))

test('over two devices conversations that lost their only slot go on from what both keep beside', async () => {
  await using nodes = new Nodes()
  const { layers, shape } = await bundledManifest()
  const prefixCacheBytes = Math.ceil(3 * kvBytes(shape, [0, layers.length], PROMPT_TOKENS + 8))
  const kept = { prefixCacheBytes, prefixCacheDiskBytes: prefixCacheBytes }
  const memoryBytes = (await bundledShare(0.62)) + prefixCacheBytes
  const home = await nodes.home()
  const source = await nodes.add({ ...kept, memoryBytes, home })
  await nodes.add({ ...kept, memoryBytes, peers: source.addresses.slice(0, 1), bundled: false })
  await until(() => source.mesh().peers.some(({ connected }) => connected))
  const ask = async (kind: number, conversation: string) =>
    await answer(source, {
      input: { kind: 'ids', ids: promptOf(kind) },
      maxTokens: CONTEXT_TOKENS - PROMPT_TOKENS - 64,
      temperature: 0,
      ignoreEos: true,
      conversation
    })
  const first = []
  for (const kind of [1, 2, 3]) first.push(await ask(kind, `${kind}`))
  expect(first.map(({ plan, cachedTokens }) => [plan.stages.length, cachedTokens])).toEqual([
    [2, 0],
    [2, 0],
    [2, 0]
  ])
  const files = () => readdir(join(home, 'prefix-cache'))
  // Nothing had to leave memory.
  expect(await files()).toEqual([])
  for (const kind of [1, 2]) {
    const again = await ask(kind, `${kind}`)
    expect(again.cachedTokens).toBeGreaterThanOrEqual(96)
    expect(again.tokens).toEqual(first[kind - 1]!.tokens)
  }
  // Another key's is nobody else's.
  expect((await ask(3, 'other')).cachedTokens).toBe(0)
  await source.stop()
  await expect(files()).rejects.toThrow('ENOENT')
})
