import { expect, test, vi } from 'vitest'
import type { EdgeNode, GenerateResult } from '../../node/api.ts'
import { EvilStage, FORGED } from '../fixtures/evil-stage.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { answer, ask, bundledShare, Nodes, until } from '../fixtures/nodes.ts'

// `npm run attack:members` plays the other lies, and with the real ones.
vi.mock('../../node/constants.ts', async importOriginal => ({
  ...(await importOriginal<typeof import('../../node/constants.ts')>()),
  SPOT_CHECK_PAUSE_MS: 100,
  RECONSIDER_MS: 0
}))

const TIMEOUT_MS = deadlineMs(60_000)
const devicesOf = ({ plan }: GenerateResult) => plan.stages.map(({ name }) => name)

test('a member that writes the answer is found out, and left as soon as the others can do without', {
  timeout: TIMEOUT_MS
}, async () => {
  await using nodes = new Nodes()
  const notices: string[] = []
  const onNotice = (text: string) => void notices.push(text)
  // It cannot hold the model, so the member takes the rest.
  const [source] = (await nodes.mesh(['source'], 0.5, { verify: 1, onNotice })) as [EdgeNode]
  await using stage = await EvilStage.join('forge', [source])
  const request = ask('What is a pump?', { maxTokens: 30, ignoreEos: true })
  const found = () => notices.some(text => text.includes('is not what the model draws'))
  // A check that falls where the model wavers names nobody.
  for (let waitMs = 2000; !found(); waitMs *= 1.5) {
    const made = await answer(source, request)
    expect(devicesOf(made)).toContain(stage.name)
    expect(made.text).toContain(FORGED.slice(0, 40))
    const endMs = performance.now() + waitMs
    await until(() => found() || performance.now() > endMs)
  }
  expect(stage.seen.answered).toBeGreaterThanOrEqual(30)
  const { opens } = stage.seen
  const memoryBytes = await bundledShare(0.5)
  const peers = source.addresses.slice(0, 1)
  for (const name of ['helper', 'other']) await nodes.add({ name, memoryBytes, bundled: false, peers })
  await until(() => source.mesh().peers.filter(({ connected }) => connected).length === 3)
  const after = await answer(source, request)
  expect(devicesOf(after)).not.toContain(stage.name)
  expect(stage.seen.opens).toBe(opens)
  const alone = await nodes.add({ name: 'alone' })
  expect(after.text).toBe((await answer(alone, request)).text)
})
