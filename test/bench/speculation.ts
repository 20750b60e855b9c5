/**
 * One answer over two and three devices with guesses ahead, against without, in one run: ms a token, the median of
 * rounds that take turns. The draft is an oracle that is right as often as it is told to be.
 *
 *     npm run bench:speculation -- [--tokens N] [--rounds N] [--layers N] [--cpus SHARE] [--compute MS] [--json]
 *
 * Each stage is a process with one compute thread that a control group holds to the same share of a processor (0.6, in
 * periods of 10 ms), as is the one device that computes all layers. Source, links and the way back are in this process;
 * a link takes a frame at its rate, then delays it. Random weights in the shape of TinyLlama 1.1B, 4 bits in blocks of
 * 128. `--compute MS` computes nothing: a stage waits so long for a step, and one device as long as all of them. What it
 * prints is the protocol's, and marked so; it can be had on a machine that has other things to do.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import type { Manifest } from '../../models/manifest.ts'
import type { Guesses, PlannedStage } from '../../node/api.ts'
import type { Draft } from '../../node/source/draft/draft.ts'
import { Pipeline } from '../../node/source/pipeline/pipeline.ts'
import type { Step } from '../../node/stage/stage.ts'
import type { FrameRow, StageTiming } from '../../protocols/stage/frame.ts'
import { createQuota } from '../lab/cpu-quota.ts'
import { OracleDraft } from '../node/source/oracle-draft.ts'
import { type MeasuredModel, OWN, randomModel } from './runtime-models.ts'
import type { StageOrder, StageReport } from './speculation-stage.ts'
import { quantile } from './statistics.ts'

const { values } = parseArgs({
  options: {
    tokens: { type: 'string', default: '96' },
    rounds: { type: 'string', default: '3' },
    layers: { type: 'string', default: '22' },
    cpus: { type: 'string', default: '0.6' },
    compute: { type: 'string' },
    json: { type: 'boolean', default: false }
  }
})
const [newTokens, rounds, layers, cpus] = [values.tokens, values.rounds, values.layers, values.cpus].map(
  Number
) as [number, number, number, number]
const computeMs = values.compute === undefined ? undefined : Number(values.compute)

const LAN = { latencyMs: 0.25, mbps: 1000 }
const SETTINGS = [
  { name: '3 stages, 10 ms, 50 Mbps', stages: 3, latencyMs: 10, mbps: 50, aim: 0.45 },
  { name: '3 stages, 5 ms, 50 Mbps', stages: 3, latencyMs: 5, mbps: 50, aim: 0.5 },
  { name: '3 stages, LAN', stages: 3, ...LAN, aim: 0.6 },
  { name: '2 stages, LAN', stages: 2, ...LAN, aim: 0.75 }
]
const RIGHT = 0.7
/** What guesses may cost where all are wrong: 0.98 of the speed without. */
const WRONG_AIM = 1 / 0.98
const PROMPT = [1, 450, 300, 12, 77, 1500, 9, 31]
const SAMPLING = { temperature: 0.8, topP: 0.95, seed: 42, topLogprobs: 0 }
const say = (line: string) => process.stdout.write(`${line}\n`)

/** A stage's process. */
class StageProcess {
  readonly #child: ChildProcess
  onStep: (report: StageReport & { of: 'step' }) => void = () => {}
  #done: (() => void) | undefined

  constructor() {
    this.#child = fork(new URL('./speculation-stage.ts', import.meta.url), { serialization: 'advanced' })
    this.#child.on('message', (report: StageReport) => {
      if (report.of === 'step') this.onStep(report)
      else this.#done?.()
    })
    this.#child.on('exit', code => {
      if (code) throw new Error(`a stage's process ended with ${code}`)
    })
  }

  get pid(): number {
    return this.#child.pid!
  }

  tell(order: StageOrder): void {
    this.#child.send(order)
  }

  /** Tells it something and waits until that is done. */
  async order(order: StageOrder): Promise<void> {
    const done = new Promise<void>(resolve => {
      this.#done = resolve
    })
    this.tell(order)
    await done
  }

  async end(): Promise<void> {
    const exit = once(this.#child, 'exit')
    this.#child.kill()
    await exit
  }
}

interface Wire {
  latencyMs: number
  mbps: number
}

/** One direction of a link: a frame after the other at its rate, each then on its way for the delay. */
class Link {
  readonly #wire: Wire
  #freeAtMs = 0

  constructor(wire: Wire) {
    this.#wire = wire
  }

  send(bytes: number, arrive: () => void): void {
    const nowMs = performance.now()
    this.#freeAtMs = Math.max(nowMs, this.#freeAtMs) + (8 * bytes) / (1000 * this.#wire.mbps)
    const ms = this.#freeAtMs + this.#wire.latencyMs - nowMs
    // Timers know no part of a millisecond, and passing a message between processes takes one.
    if (ms < 1) arrive()
    else setTimeout(arrive, ms)
  }
}

interface Measured {
  ids: number[]
  tokenMs: number
  guesses: Guesses | undefined
}

/** Answers over some stages and links, one at a time. */
class Line {
  readonly #stages: StageProcess[]
  readonly #manifest: Manifest
  readonly #wire: Wire

  constructor(stages: StageProcess[], manifest: Manifest, wire: Wire) {
    this.#stages = stages
    this.#manifest = manifest
    this.#wire = wire
  }

  async answer(draft: Draft | undefined): Promise<Measured> {
    const stages = this.#stages
    const links = stages.map(() => new Link(this.#wire))
    const { hiddenSize, vocabSize } = this.#manifest.shape
    const own = new Map<number, StageTiming>()
    const planned = stages.map(
      (_, i): PlannedStage => ({ peerId: `${i}`, name: `${i}`, layers: [i, i + 1], weightBytes: 0 })
    )
    const [first] = stages
    const pipeline: Pipeline = new Pipeline(
      {
        stages: {
          first: {
            run: async (input, step) => first!.tell({ op: 'run', input: input as Int32Array, step }),
            timingOf: ({ position }: FrameRow) => own.get(position),
            dropBefore: (sessionId, epoch) => first!.tell({ op: 'drop', sessionId, epoch })
          },
          remote: planned.slice(1),
          open: async ({ sessionId, sampling }) => {
            await Promise.all(stages.map(stage => stage.order({ op: 'open', sessionId, sampling })))
            return false
          },
          close: async sessionId => {
            await Promise.all(stages.map(stage => stage.order({ op: 'close', sessionId })))
          },
          unconfirmed: async () => new Set()
        },
        sessions: { addOwner: () => {}, removeOwner: () => {}, dropBefore: () => {} },
        peers: {
          peerId: 'source',
          suspects: () => new Set(),
          send: async (peerId, { rows: [row] }) => {
            const { sessionId, epoch = 0 } = row!
            new Link(this.#wire).send(64, () =>
              stages[Number(peerId)]!.tell({ op: 'drop', sessionId, epoch })
            )
          }
        }
      },
      {
        slots: 1,
        microBatches: 1,
        strategy: 'no-bubble',
        predicted: { ttftMs: 0, tpotMs: 0, stages: [], linksMs: [] },
        vocabSize,
        hiddenSize: 1,
        onSlow: () => {}
      }
    )
    stages.forEach((stage, i) => {
      stage.onStep = ({ step, hidden, tokens }) => {
        if (i === 0) own.set(step.rows[0]!.position, step.timings[0]!)
        const next = stages[i + 1]
        if (hidden !== undefined && next !== undefined)
          links[i]!.send(4 * hiddenSize * step.tokens, () => next.tell({ op: 'run', input: hidden, step }))
        const back = (to: Step) => pipeline.accept(to.rows, tokens!, to.timings)
        if (tokens !== undefined && stages.length === 1) back(step)
        else if (tokens !== undefined) links[i]!.send(64, () => back(step))
      }
    })
    const answer = await pipeline.open(
      {
        prompt: PROMPT,
        known: [],
        ends: new Set(),
        maxTokens: newTokens,
        scope: '',
        sampling: SAMPLING,
        predicted: { ttftMs: 0, tpotMs: 0, stages: [], linksMs: [] },
        draft
      },
      new AbortController().signal
    )
    const ids = [(await answer.next()).id]
    const startMs = performance.now()
    while (ids.length < newTokens) ids.push((await answer.next()).id)
    const tokenMs = (performance.now() - startMs) / (newTokens - 1)
    const { guesses } = answer
    await answer.close()
    return { ids, tokenMs, guesses }
  }
}

/** Processes for so many equal parts of a model, each held to its share where that is permitted. */
async function stagesOf({ manifest, blobsDir }: MeasuredModel, count: number) {
  const quotas: { remove(): Promise<void> }[] = []
  const total = manifest.layers.length
  const stages = await Promise.all(
    Array.from({ length: count }, async (_, i) => {
      const stage = new StageProcess()
      const quota =
        computeMs === undefined
          ? await createQuota(`edgeshard-speculation-${process.pid}-${count}-${i}`, cpus)
          : null
      if (quota !== null) {
        await writeFile(quota.procs, `${stage.pid}`)
        quotas.push(quota)
      }
      const range: [number, number] = [Math.round((i * total) / count), Math.round(((i + 1) * total) / count)]
      const maxTokens = PROMPT.length + newTokens + 1
      const waits = computeMs === undefined ? {} : { computeMs: (3 / count) * computeMs }
      await stage.order({ op: 'load', setup: { manifest, range, blobsDir, maxTokens, ...waits } })
      return stage
    })
  )
  const end = async () => {
    await Promise.all(stages.map(stage => stage.end()))
    for (const quota of quotas) await quota.remove()
  }
  return { stages, held: quotas.length === count, end }
}

await using model = await randomModel(
  'random',
  OWN,
  { decoderLayers: layers },
  computeMs === undefined ? undefined : [0, 0]
)
const { vocabSize } = model.manifest.shape
const median = (all: readonly Measured[]) =>
  quantile(
    all.map(({ tokenMs }) => tokenMs),
    0.5
  )
const rows: Record<string, string | number | boolean>[] = []
let held = true
const alone = await stagesOf(model, 1)
const aloneLine = new Line(alone.stages, model.manifest, LAN)
for (const count of [3, 2]) {
  const group = await stagesOf(model, count)
  held &&= group.held
  for (const { name, aim, ...wire } of SETTINGS.filter(({ stages }) => stages === count)) {
    const line = new Line(group.stages, model.manifest, wire)
    const truth = (await line.answer(undefined)).ids
    const oracle = (right: number, seed: number) =>
      new OracleDraft({ promptTokens: PROMPT.length, answer: truth, right, vocabSize, seed })
    const all = {
      plain: [] as Measured[],
      wrong: [] as Measured[],
      right: [] as Measured[],
      one: [] as Measured[]
    }
    for (let round = 1; round <= rounds; round++) {
      all.plain.push(await line.answer(undefined))
      all.right.push(await line.answer(oracle(RIGHT, round)))
      all.wrong.push(await line.answer(oracle(0, round)))
      all.one.push(await aloneLine.answer(undefined))
    }
    const same = [...all.plain, ...all.right, ...all.wrong].every(({ ids }) =>
      ids.every((id, i) => id === truth[i])
    )
    const plainMs = median(all.plain)
    const guesses = all.right.at(-1)!.guesses!
    rows.push({
      setting: name,
      plainMs,
      oneDeviceMs: median(all.one),
      guessedMs: median(all.right),
      ratio: median(all.right) / plainMs,
      aim,
      wrongRatio: median(all.wrong) / plainMs,
      wrongAim: WRONG_AIM,
      sent: guesses.sent,
      held: guesses.held,
      dropped: guesses.dropped,
      same
    })
    sayRow(rows.at(-1)!)
  }
  await group.end()
}
await alone.end()

if (values.json) say(JSON.stringify({ quota: quotaWords(), right: RIGHT, newTokens, rows }, null, 1))

function quotaWords(): string {
  if (computeMs !== undefined) {
    return `simulated: a stage waits ${computeMs} ms for a step (a third of the model) and computes nothing`
  }
  if (held) return `each stage under a quota of ${cpus} of a processor, period 10 ms`
  return 'no quota was permitted: stages take each other’s time'
}

/** Lines come as they are measured: a whole run takes its time. */
function sayRow(row: Record<string, string | number | boolean>): void {
  if (values.json) return
  if (rows.length === 1) {
    say(`${layers} decoder layers, ${newTokens} tokens, ${rounds} rounds; ${quotaWords()}`)
    say(
      'setting | plain ms | one device ms | 70 % right ms | ratio (aim) | 0 % right, ratio (aim) | guesses sent, held, dropped | tokens'
    )
  }
  const of = (key: string, digits = 1) => Number(row[key]).toFixed(digits)
  const ratios = `${of('ratio', 2)} (${row.aim}) | ${of('wrongRatio', 2)} (${of('wrongAim', 2)})`
  const guesses = `${row.sent}, ${row.held}, ${row.dropped}`
  const tokens = row.same ? 'the same' : 'OTHERS'
  say(
    `${row.setting} | ${of('plainMs')} | ${of('oneDeviceMs')} | ${of('guessedMs')} | ${ratios} | ${guesses} | ${tokens}`
  )
}
