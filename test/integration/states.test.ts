import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { importModel } from '../../models/import/import-model.ts'
import { leaseBytes } from '../../models/runtime/memory.ts'
import { ModelStore } from '../../models/store/store.ts'
import type { EdgeNode } from '../../node/index.ts'
import { answer, Nodes, until } from '../fixtures/nodes.ts'
import { hasSharedData, sharedData } from '../fixtures/shared-data.ts'

const NAME = 'arch/qwen35-deltanet'
const CONTEXT_TOKENS = 256

it.skipIf(!hasSharedData)(
  'a model with states answers as llama.cpp does on one node and on three, and its next turn goes on from a state',
  async () => {
    const golden: { prompt_tokens: number[]; tokens: number[] } = JSON.parse(
      await readFile(sharedData(`${NAME}/reference.json`), 'utf8')
    )
    await using nodes = new Nodes()
    const home = await nodes.home()
    const store = await ModelStore.open(join(home, 'store'))
    const { manifest } = await importModel(sharedData(`${NAME}/hf`), store, { name: 'states' })
    const whole = leaseBytes(manifest, [0, manifest.layers.length], { slots: 1, maxTokens: CONTEXT_TOKENS })
    const memoryBytes = Math.ceil(0.55 * (whole.weightBytes + whole.ownBytes))
    const draw = async (node: EdgeNode, ids: number[]) =>
      await answer(node, {
        input: { kind: 'ids', ids },
        ...{ model: 'states', conversation: 'mine', temperature: 0, maxTokens: golden.tokens.length }
      })
    const a = await nodes.add({ name: 'a', home, memoryBytes, bundled: false })
    const peers = a.addresses.slice(0, 1)
    for (const name of ['b', 'c']) await nodes.add({ name, memoryBytes, peers, bundled: false })
    await until(() => a.mesh().peers.filter(({ connected }) => connected).length === 2)
    const first = await draw(a, golden.prompt_tokens)
    expect(first.plan.stages.length).toBeGreaterThan(1)
    expect(first.tokens).toEqual(golden.tokens)
    const next = [...golden.prompt_tokens, ...first.tokens, 300, 301]
    const second = await draw(a, next)
    expect(second.cachedTokens).toBe(golden.prompt_tokens.length + golden.tokens.length - 1)

    const alone = await nodes.add({ name: 'alone', bundled: false, home: await copied() })
    expect((await draw(alone, golden.prompt_tokens)).tokens).toEqual(golden.tokens)
    expect((await draw(alone, next)).tokens).toEqual(second.tokens)

    async function copied(): Promise<string> {
      const other = await nodes.home(new Uint8Array(32).fill(6))
      await importModel(sharedData(`${NAME}/hf`), await ModelStore.open(join(other, 'store')), {
        name: 'states'
      })
      return other
    }
  }
)
