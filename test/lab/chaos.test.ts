import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { LabMesh } from '../chaos/lab-mesh.ts'
import { ProcessMesh } from '../chaos/process-mesh.ts'
import { drawRequest, type Round, type Stroke } from '../chaos/round.ts'
import { series } from '../chaos/series.ts'
import { Twins } from '../chaos/twin.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { bundledShare } from '../fixtures/nodes.ts'
import { prng } from '../fixtures/prng.ts'
import { labProblem } from './permitted.ts'

const problem = labProblem()
if (problem !== null) process.stdout.write(`chaos in the lab is skipped: ${problem}\n`)

const SEED = 3
/** Share of what the model needs: two devices hold it, and a third is to spare. */
const SHARE = 0.65
const LINK = { mbps: 1000, latencyMs: 0.25 }
/** What only cables can do, and a kill; the command plays many more. */
const KINDS: Stroke['kind'][] = ['unplug', 'slow', 'kill']

describe.skipIf(problem !== null)('answers in the lab', () => {
  let alone: ProcessMesh
  let mesh: LabMesh

  beforeAll(async () => {
    alone = await ProcessMesh.create({ names: ['alone'], memoryBytes: 2 ** 30, holders: 1 })
    const devices = { names: ['a', 'b', 'c'], memoryBytes: await bundledShare(SHARE), holders: 2 }
    mesh = await LabMesh.create({ ...devices, link: LINK })
  })
  afterAll(async () => {
    await Promise.all([alone?.[Symbol.asyncDispose](), mesh?.[Symbol.asyncDispose]()])
  })

  test('whose stages are unplugged, slowed and killed are those of an undisturbed run, and nothing is left', {
    timeout: deadlineMs(180_000)
  }, async () => {
    const random = prng(SEED)
    const rounds = KINDS.map(
      (kind): Round => ({
        source: 0,
        request: drawRequest(random),
        moment: 'decode',
        offset: random(),
        strokes: [{ kind, pick: random() }]
      })
    )
    const say = (line: string) => process.stdout.write(`${line}\n`)
    const { played, problems } = await series(mesh, new Twins(alone.devices[0]!), rounds, say)
    expect(problems).toEqual([])
    // A stroke counts only where tokens came before and after it.
    expect(played.filter(({ counts }) => counts).length).toBeGreaterThanOrEqual(2)
  })
})
