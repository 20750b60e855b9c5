import { afterAll, beforeAll, expect, test } from 'vitest'
import { crowd, crowdLine } from '../chaos/crowd.ts'
import { type ChaosMesh, whole } from '../chaos/mesh.ts'
import { ProcessMesh } from '../chaos/process-mesh.ts'
import { atRest, Baseline } from '../chaos/rest.ts'
import { drawRequest, type Moment, type Random, type Round, type Stroke } from '../chaos/round.ts'
import { series } from '../chaos/series.ts'
import { Twins } from '../chaos/twin.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { bundledShare } from '../fixtures/nodes.ts'
import { prng } from '../fixtures/prng.ts'

const SEED = 7
/** Share of what the model needs: two devices hold it, so two of the four may be lost at once. */
const SHARE = 0.65
const NAMES = ['a', 'b', 'c', 'd']
/** Devices that are asked in the first part: each measures its links and times the model when it is asked first. */
const SOURCES = 2

/** What is done when; which node is asked, what, and which stage is hit is drawn. The command plays many more. */
const ROUNDS: { moment: Moment; kinds: Stroke['kind'][] }[] = [
  { moment: 'decode', kinds: ['kill'] },
  { moment: 'decode', kinds: ['kill', 'restart'] },
  { moment: 'load', kinds: ['kill'] },
  { moment: 'decode', kinds: ['hang'] }
]

let alone: ProcessMesh
let mesh: ChaosMesh
let twins: Twins

const say = (line: string) => process.stdout.write(`${line}\n`)

beforeAll(async () => {
  const memoryBytes = await bundledShare(SHARE)
  ;[alone, mesh] = await Promise.all([
    ProcessMesh.create({ names: ['alone'], memoryBytes: 2 ** 30, holders: 1 }),
    ProcessMesh.create({ names: NAMES, memoryBytes, holders: 2 })
  ])
  twins = new Twins(alone.devices[0]!)
})
afterAll(async () => {
  await Promise.all([alone?.[Symbol.asyncDispose](), mesh?.[Symbol.asyncDispose]()])
})

test('answers whose stages are killed, restarted and hung are those of an undisturbed run, and nothing is left', {
  timeout: deadlineMs(180_000)
}, async () => {
  const { played, problems } = await series(mesh, twins, rounds(prng(SEED)), say)
  expect(problems).toEqual([])
  // A kill counts only where tokens came before and after it.
  expect(played.filter(({ counts }) => counts).length).toBeGreaterThanOrEqual(2)
})

test('24 requests from 4 sources at once, some of whose clients leave: all end, and nothing is left', {
  timeout: deadlineMs(180_000)
}, async () => {
  await whole(mesh)
  const baseline = new Baseline()
  baseline.note(mesh)
  const options = { requests: 24, sources: 4, random: prng(SEED), maxTokens: 32 }
  const result = await crowd(mesh, twins, options)
  say(crowdLine(result, options))
  expect(result.problems).toEqual([])
  expect(result.equal + result.forks).toBe(result.manners.read + result.manners.leave)
  await atRest(mesh, baseline)
})

function rounds(random: Random): Round[] {
  return ROUNDS.map(({ moment, kinds }) => ({
    source: Math.floor(random() * SOURCES),
    request: drawRequest(random),
    moment,
    offset: random(),
    strokes: kinds.map(kind => ({ kind, pick: random() }))
  }))
}
