import { expect, test, vi } from 'vitest'
import type { EdgeNode, GenerateRequest, GenerateResult } from '../../node/api.ts'
import { type Evil, EvilStage, FORGED } from '../fixtures/evil-stage.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { answer, ask, Nodes, until } from '../fixtures/nodes.ts'

// `npm run attack:members` plays with the real ones, and what takes their time.
vi.mock('../../node/constants.ts', async importOriginal => ({
  ...(await importOriginal<typeof import('../../node/constants.ts')>()),
  SPOT_CHECK_PAUSE_MS: 100,
  RECONSIDER_MS: 0
}))

const TIMEOUT_MS = deadlineMs(60_000)
const devicesOf = ({ plan }: GenerateResult) => plan.stages.map(({ name }) => name)

/** Three honest nodes, and a fourth that attracts what the first of them does not hold. */
async function attacked(nodes: Nodes, evil: Evil, { verify }: { verify: number }) {
  const notices: string[] = []
  const onNotice = (text: string) => void notices.push(text)
  const mesh = await nodes.mesh(['source', 'helper', 'other'], 0.5, { verify, onNotice })
  const [source] = mesh as [EdgeNode]
  const request = ask('What is a pump?', { maxTokens: 30, ignoreEos: true })
  const honest = await answer(source, request)
  const stage = await EvilStage.join(evil, mesh, { lateMs: evil === 'late' ? 150 : 0 })
  const again = (over: Partial<GenerateRequest> = {}) => answer(source, { ...request, ...over })
  const named = (what: RegExp) => notices.some(text => what.test(text))
  return { honest, stage, again, named }
}

test('a member that writes the answer is found out, and left at once', { timeout: TIMEOUT_MS }, async () => {
  await using nodes = new Nodes()
  const { honest, stage, again, named } = await attacked(nodes, 'forge', { verify: 1 })
  await using _stage = stage
  // It is taken when the link to it is measured, and a check that falls where the model wavers names nobody.
  const found = () => named(/is not what the model draws/)
  for (let waitMs = 500; !found(); waitMs *= 1.5) {
    const made = await again()
    if (!devicesOf(made).includes(stage.name)) continue
    expect(made.text).toContain(FORGED.slice(0, 40))
    const endMs = performance.now() + waitMs
    await until(() => found() || performance.now() > endMs)
  }
  expect(stage.seen.answered).toBeGreaterThanOrEqual(30)
  const { opens } = stage.seen
  const after = await again()
  expect(devicesOf(after)).not.toContain(stage.name)
  expect(after.text).toBe(honest.text)
  expect(stage.seen.opens).toBe(opens)
})

test('a member that hides how long its steps take is named', { timeout: TIMEOUT_MS }, async () => {
  await using nodes = new Nodes()
  const { stage, again, named } = await attacked(nodes, 'late', { verify: 0 })
  await using _stage = stage
  while (!named(/^turbo .* says that a layer takes it .* ms; answers took/)) await again({ maxTokens: 8 })
  expect(stage.seen.answered).toBeGreaterThanOrEqual(8)
})
