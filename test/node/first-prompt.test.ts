import { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { afterEach, expect, test, vi } from 'vitest'
import { weightBytes } from '../../models/runtime/memory.ts'
import type { ShardSpec } from '../../models/runtime/runtime.ts'
import { ModelStore } from '../../models/store/store.ts'
import type { Tokenizer } from '../../models/tokenizer/tokenizer.ts'
import { BUNDLED_DIR } from '../../node/bundled.ts'
import { prepareFirstPrompt } from '../../node/first-prompt.ts'
import { writeContacts } from '../../node/mesh/contacts.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { bundledManifest } from '../fixtures/nodes.ts'
import { peerIdOf } from '../fixtures/peer-ids.ts'

const tokenizers: Promise<Tokenizer>[] = []
afterEach(async () => {
  for (const loading of tokenizers.splice(0)) await (await loading).close()
})

interface Given {
  name?: string
  budgetBytes?: number
  peers?: string[]
  contacts?: string[]
  /** Layers that are here. @default all */
  held?: number
  /** @default always */
  mayRest?: (modelId: string) => boolean
}

/** What is begun for a first prompt: how many tokenizers, and which layers. */
async function begun({
  name,
  budgetBytes = 2 ** 40,
  peers = [],
  contacts = [],
  held,
  mayRest = () => true
}: Given) {
  await using folder = await temporaryFolder()
  const home = folder.path
  if (contacts.length > 0) {
    await writeContacts(home, new Map(contacts.map(id => [id, ['/ip4/192.168.1.20/tcp/7446']])))
  }
  const bundled = ModelStore.at(BUNDLED_DIR)
  const store = {
    blobsDir: bundled.blobsDir,
    list: () => bundled.list(),
    readSideFile: bundled.readSideFile.bind(bundled),
    heldLayers: bundled.heldLayers.bind(bundled)
  }
  if (held !== undefined) store.heldLayers = async () => [[0, held]]
  const specs: ShardSpec[] = []
  const ahead = { begin: (spec: ShardSpec) => void specs.push(spec) }
  const found = await prepareFirstPrompt({ home, store, ahead, budgetBytes, peers, mayRest }, name)
  tokenizers.push(...found.values())
  return { tokenizers: found.size, ranges: specs.map(({ range }) => range) }
}

test('a device that knows no other begins with all of the model', async () => {
  const all = [0, (await bundledManifest()).layers.length]
  const { id } = await ModelStore.at(BUNDLED_DIR).resolve('edgeshard-tiny')
  for (const name of [undefined, 'edgeshard-tiny', id]) {
    expect(await begun(name === undefined ? {} : { name })).toEqual({ tokenizers: 1, ranges: [all] })
  }
})

test('one that knows others, lacks layers or has too little room begins with the tokenizer alone', async () => {
  const bytes = weightBytes(await bundledManifest())
  const tokenizer = { tokenizers: 1, ranges: [] }
  expect(await begun({ peers: ['/ip4/192.168.1.20/tcp/7446'] })).toEqual(tokenizer)
  expect(await begun({ contacts: [peerIdOf('b')] })).toEqual(tokenizer)
  expect(await begun({ held: 3 })).toEqual(tokenizer)
  expect(await begun({ budgetBytes: bytes })).toEqual(tokenizer)
})

test('its tokenizer, too, stays while it is idle where it is to', async () => {
  const { id } = await ModelStore.at(BUNDLED_DIR).resolve('edgeshard-tiny')
  const kill = vi.spyOn(ChildProcess.prototype, 'kill')
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    let stays = true
    const asked: string[] = []
    await begun({ mayRest: modelId => asked.push(modelId) > 0 && !stays })
    await tokenizers[0]
    vi.advanceTimersToNextTimer()
    expect(asked).toEqual([id])
    expect(kill).not.toHaveBeenCalled()
    stays = false
    vi.advanceTimersToNextTimer()
    expect(kill).toHaveBeenCalled()
  } finally {
    vi.useRealTimers()
    kill.mockRestore()
  }
})

test('a model that is not here is nothing to begin with', async () => {
  expect(await begun({ name: randomBytes(8).toString('hex') })).toEqual({ tokenizers: 0, ranges: [] })
})
