import { expect, test } from 'vitest'
import type { LayerRange } from '../../../models/layers.ts'
import { prefillChunks } from '../../../models/runtime/hidden.ts'
import { randomManifest } from '../../../models/runtime/random-weights.ts'
import type { HiddenStates, ShardBatch, ShardSession } from '../../../models/runtime/runtime.ts'
import { Stage, type Step, type StepResult } from '../../../node/stage/stage.ts'
import { Turns } from '../../../node/stage/turns.ts'
import { TINY_SHAPE } from '../../fixtures/random-model.ts'
import { GREEDY } from '../../fixtures/shards.ts'
import { SimulatedRuntime } from '../simulation/device.ts'

const MAX_TOKENS = 400
const SHAPE = { ...TINY_SHAPE, contextLength: MAX_TOKENS }
const MANIFEST = randomManifest(SHAPE, undefined)
const LAYERS = MANIFEST.layers.length
const ANSWERS = ['a', 'b', 'c', 'd']
const JOINING = 'joining'
const SLOTS = ANSWERS.length + 1
const CHUNK = 32

const promptOf = (name: string, length = 5): number[] =>
  Array.from({ length }, (_, i) => (name.charCodeAt(0) * 7 + i * 31) % SHAPE.vocabSize)

/** The tokens that a run has of each session. */
type Run = Record<string, number>

interface StageOptions {
  range?: LayerRange
  frameTokens?: number
  /** Tokens of a prompt that are fed at once. */
  chunk?: number
  hasState?: boolean
  /** Runs of several sessions fail of which one has several tokens. */
  breaks?: boolean
  /** A session for which no numbers come out of runs with a piece of a prompt. */
  spoilt?: string | undefined
  /** The prompt that joins is that of a session which is built up beside a running one. */
  catchesUp?: boolean
}

interface JoinOptions extends StageOptions {
  answers?: string[]
}

/** A stage over a model that is arithmetic, and the source of its sessions: a token that is drawn is fed at once. */
class Played {
  readonly runs: Run[] = []
  readonly drawn = new Map<string, number[]>()
  readonly hidden: HiddenStates[] = []
  /** Sessions that ended by their own numbers. */
  readonly failed: string[] = []
  #stage!: Stage
  readonly #lengths = new Map<string, number>()
  readonly #chunk: number

  private constructor(chunk: number) {
    this.#chunk = chunk
  }

  static async open(ids: readonly string[], options: StageOptions = {}): Promise<Played> {
    const {
      range = [0, LAYERS],
      frameTokens = CHUNK,
      chunk = CHUNK,
      breaks = false,
      spoilt,
      hasState
    } = options
    const catchUpTokens = options.catchesUp ? MAX_TOKENS : 0
    const played = new Played(chunk)
    const shard = await new SimulatedRuntime({ stepMs: 0, loadMs: 0 }).load({
      manifest: MANIFEST,
      range,
      blobsDir: ''
    })
    const batch = await shard.openBatch({ slots: SLOTS, maxTokens: MAX_TOKENS })
    played.#stage = new Stage({
      batch: played.#noting(batch, ids, { breaks, spoilt }),
      turns: new Turns(),
      tenant: 'source',
      hiddenSize: SHAPE.hiddenSize,
      ...(hasState && { hasState }),
      maxTokens: MAX_TOKENS,
      frameTokens,
      deliver: async (result, step) => played.#deliver(result, step),
      onRowsFailed: rows => {
        played.failed.push(...rows.map(({ sessionId }) => sessionId))
      }
    })
    for (const [slot, id] of ids.entries()) {
      const kept = { slot, keepTokens: 0, withholdTokens: 0, sampling: GREEDY }
      await played.#stage.open(id, { ...kept, ...(id === JOINING && { catchUpTokens }) })
    }
    return played
  }

  /** Feeds a prompt in chunks. */
  prompt(id: string, tokens: readonly number[]): Promise<unknown> {
    this.#lengths.set(id, tokens.length)
    return Promise.all(
      prefillChunks(tokens.length, this.#chunk).map(([start, end]) =>
        this.#stage.run(Int32Array.from(tokens.slice(start, end)), {
          rows: [{ sessionId: id, position: start }],
          tokens: end - start,
          sample: end === tokens.length,
          timings: []
        })
      )
    )
  }

  /** A token of each of some answers, which share their step: the one that was drawn for it last. */
  async step(ids: readonly string[]): Promise<void> {
    const input = Int32Array.from(ids, id => this.drawn.get(id)!.at(-1)!)
    const rows = ids.map(sessionId => ({
      sessionId,
      position: this.#lengths.get(sessionId)! + this.drawn.get(sessionId)!.length - 1
    }))
    await this.#stage.run(input, { rows, tokens: ids.length, sample: true, timings: [] })
  }

  close(id: string): Promise<void> {
    return this.#stage.closeSession(id)
  }

  #deliver(result: StepResult, { rows }: Step): void {
    if (result.kind === 'hidden') this.hidden.push(result.hidden)
    if (result.kind === 'tokens') {
      rows.forEach(({ sessionId }, i) => {
        this.drawn.set(sessionId, [...(this.drawn.get(sessionId) ?? []), result.tokens[i]!.id])
      })
    }
  }

  #noting(
    batch: ShardBatch,
    ids: readonly string[],
    { breaks, spoilt }: Pick<StageOptions, 'breaks' | 'spoilt'>
  ): ShardBatch {
    const { runs } = this
    const names = new Map<ShardSession, string>()
    const note = (sessions: readonly ShardSession[], tokens: number[]): void => {
      runs.push(Object.fromEntries(sessions.map((session, i) => [names.get(session)!, tokens[i]!])))
    }
    return {
      async open(options) {
        const session = await batch.open(options)
        const forward = session.forward.bind(session)
        session.forward = async step => {
          note([session], [step.input instanceof Int32Array ? step.input.length : step.input.tokens])
          return await forward(step)
        }
        names.set(session, ids[options!.slot!]!)
        return session
      },
      async step(sessions, step) {
        const tokens = step.parts.map(part => part.tokens)
        if (breaks && tokens.some(count => count > 1)) throw new Error('the run failed')
        note(sessions, tokens)
        const output = await batch.step(sessions, step)
        if (output.kind === 'hidden') return output
        const drawn = output.drawn.map((own, i) =>
          names.get(sessions[i]!) === spoilt ? own.map(() => undefined) : own
        )
        return { ...output, drawn }
      },
      decode(sessions, step) {
        note(
          sessions,
          step.positions.map(() => 1)
        )
        return batch.decode(sessions, step)
      },
      close: () => batch.close()
    }
  }
}

const STEPS = 3

/** Answers that run, and a prompt that joins them while they do; some steps of all of them follow. */
async function joined(prompt: readonly number[], { answers = ANSWERS, ...options }: JoinOptions = {}) {
  const played = await Played.open([...answers, JOINING], options)
  for (const id of answers) await played.prompt(id, promptOf(id))
  for (let i = 0; i < STEPS; i++) await played.step(answers)
  played.runs.length = 0
  let through = false
  const joining = played.prompt(JOINING, prompt).then(() => {
    through = true
  })
  while (!through) await played.step(answers)
  await joining
  const { length } = played.runs
  for (let i = 0; i < STEPS; i++) await played.step([...answers, JOINING])
  return { played, runs: played.runs.slice(0, length) }
}

/** Every answer has the tokens that it has alone. */
async function expectAsAlone({ drawn }: Played, prompt: readonly number[]): Promise<void> {
  for (const [id, tokens] of drawn) {
    const alone = await Played.open([id])
    await alone.prompt(id, id === JOINING ? prompt : promptOf(id))
    while (alone.drawn.get(id)!.length < tokens.length) await alone.step([id])
    expect(tokens, id).toEqual(alone.drawn.get(id))
  }
}

test('steps of running answers take pieces of a prompt along, and none waits for a chunk of it', async () => {
  const prompt = promptOf(JOINING, 200)
  const { played, runs } = await joined(prompt)
  await expectAsAlone(played, prompt)
  const pieces = runs.flatMap(run => run[JOINING] ?? [])
  expect(pieces.reduce((sum, tokens) => sum + tokens, 0)).toBe(prompt.length)
  expect(runs.filter(run => JOINING in run && 'a' in run).length).toBeGreaterThan(pieces.length / 2)
  expect(Math.max(...pieces)).toBeLessThan(CHUNK)
})

test('what catches up goes into no run of others, and is not cut', async () => {
  const prompt = promptOf(JOINING, 3 * CHUNK)
  const { played, runs } = await joined(prompt, { catchesUp: true })
  await expectAsAlone(played, prompt)
  expect(runs.filter(run => JOINING in run)).toEqual(Array(3).fill({ [JOINING]: CHUNK }))
})

test.each([33, 34, 35, 38, 64, 67])('no piece of a prompt of %i is a single token', async length => {
  const prompt = promptOf(JOINING, length)
  const { played, runs } = await joined(prompt, { answers: ['a'] })
  await expectAsAlone(played, prompt)
  const single = runs.filter(run => run[JOINING] === 1)
  // A chunk of one token is computed as it is.
  expect(single).toEqual(length % CHUNK === 1 ? [{ [JOINING]: 1 }] : [])
})

test('a run that fails with a piece of a prompt fails nobody: all are computed by themselves', async () => {
  const prompt = promptOf(JOINING, 70)
  const { played, runs } = await joined(prompt, { breaks: true })
  await expectAsAlone(played, prompt)
  expect(runs.filter(run => JOINING in run && 'a' in run)).toEqual([])
})

test('a prompt of a model with states, of which one is kept before a chunk, is computed in whole chunks', async () => {
  const prompt = promptOf(JOINING, 3 * CHUNK)
  const { played, runs } = await joined(prompt, { hasState: true })
  await expectAsAlone(played, prompt)
  expect(runs.filter(run => JOINING in run)).toEqual(Array(3).fill({ [JOINING]: CHUNK }))
})

test('a prompt gets on where a step of running answers has no room for a piece of it', async () => {
  const prompt = promptOf(JOINING, 40)
  const { played, runs } = await joined(prompt, {
    frameTokens: ANSWERS.length + 1,
    chunk: ANSWERS.length + 1
  })
  await expectAsAlone(played, prompt)
  expect(runs.filter(run => JOINING in run && 'a' in run)).toEqual([])
})

test('a prompt is computed in whole chunks where no answer runs, and from when the last one has ended', async () => {
  const prompt = promptOf(JOINING, 3 * CHUNK)
  const played = await Played.open(['a', JOINING])
  await played.prompt('a', promptOf('a'))
  await played.step(['a'])
  played.runs.length = 0
  const joining = played.prompt(JOINING, prompt)
  await played.step(['a'])
  await played.close('a')
  await joining
  expect(played.runs.slice(-2)).toEqual([{ [JOINING]: CHUNK }, { [JOINING]: CHUNK }])
})

test('hidden states of a chunk that was computed in pieces go on whole', async () => {
  const range: LayerRange = [0, LAYERS - 1]
  const prompt = promptOf(JOINING, 2 * CHUNK)
  const whole = await Played.open([JOINING], { range })
  await whole.prompt(JOINING, prompt)
  const played = await Played.open(['a', JOINING], { range })
  await played.prompt('a', promptOf('a'))
  const fed = [1]
  played.drawn.set('a', fed)
  await played.step(['a'])
  const before = played.hidden.length
  const joining = played.prompt(JOINING, prompt)
  for (let token = 2; token < 6; token++) {
    fed.push(token)
    await played.step(['a'])
  }
  await joining
  expect(played.runs.some(run => JOINING in run && 'a' in run)).toBe(true)
  const chunks = played.hidden.slice(before).filter(({ tokens }) => tokens > 1)
  expect(chunks.map(({ data }) => [...data])).toEqual(whole.hidden.map(({ data }) => [...data]))
})

test.each(['a', JOINING])('where %s has no numbers in a run of all, it ends alone', async spoilt => {
  const prompt = promptOf(JOINING, CHUNK)
  const played = await Played.open([...ANSWERS, JOINING], { spoilt })
  for (const id of ANSWERS) await played.prompt(id, promptOf(id))
  await played.step(ANSWERS)
  const joining = played.prompt(JOINING, prompt)
  const left = ANSWERS.filter(id => id !== spoilt)
  await played.step(ANSWERS)
  while (played.failed.length === 0 || !(played.drawn.has(JOINING) || spoilt === JOINING))
    await played.step(left)
  await joining
  expect(played.failed).toEqual([spoilt])
  await played.step(left)
  await expectAsAlone(played, prompt)
})
