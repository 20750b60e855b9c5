import { join } from 'node:path'
import { expect, it } from 'vitest'
import { ModelStore } from '../../models/store/store.ts'
import type { GenerateEvent } from '../../node/api.ts'
import { BUNDLED_DIR } from '../../node/bundled.ts'
import { answer, ask, Nodes, nextOf, until } from '../fixtures/nodes.ts'
import { storeRandomModel } from '../fixtures/stored-model.ts'

const PROMPT = 'What does a thermostat do?'

it('a model that another process imports or removes is there, or gone, at once', async () => {
  await using nodes = new Nodes()
  const home = await nodes.home()
  const node = await nodes.add({ home, bundled: false })
  const peer = await nodes.add({ name: 'peer', bundled: false, peers: node.addresses.slice(0, 1) })
  await expect(answer(node, ask(PROMPT))).rejects.toMatchObject({ name: 'UnknownModelError' })
  // As the command line does it, with a store of its own on the same folder.
  const store = await ModelStore.open(join(home, 'store'))
  const [model] = await store.adopt(BUNDLED_DIR)
  await until(async () => (await node.models()).length === 1 && (await peer.models()).length === 1)
  const whole = await answer(peer, ask(PROMPT))
  // From the peer, which has leases for it on both.
  const running = peer.generate(ask(PROMPT))
  const { text } = await nextOf(running, 'text')
  await store.remove(model!.name)
  await until(async () => (await node.models()).length === 0 && (await peer.models()).length === 0)
  expect(text + (await restOf(running))).toBe(whole.text)
  await until(() => [node, peer].every(one => one.mesh().leases.length + one.mesh().deployments.length === 0))
  await expect(answer(node, ask(PROMPT))).rejects.toMatchObject({ name: 'UnknownModelError' })
})

it('has the bundled model beside one that was imported before, and not once it was removed', async () => {
  await using nodes = new Nodes()
  const home = await nodes.home()
  const dir = join(home, 'store')
  await storeRandomModel(dir, 'mine', { decoderLayers: 1 })
  const first = await nodes.add({ home })
  expect((await first.models()).map(({ name }) => name).sort()).toEqual(['edgeshard-tiny', 'mine'])
  await first.stop()
  const store = await ModelStore.open(dir)
  await store.remove('edgeshard-tiny')
  const second = await nodes.add({ home })
  expect((await second.models()).map(({ name }) => name)).toEqual(['mine'])
  await second.stop()
  expect((await store.adopt(BUNDLED_DIR, { again: true })).map(({ name }) => name)).toEqual([
    'edgeshard-tiny'
  ])
})

async function restOf(events: AsyncGenerator<GenerateEvent>): Promise<string> {
  let text = ''
  for await (const event of events) if (event.type === 'text') text += event.text
  return text
}
