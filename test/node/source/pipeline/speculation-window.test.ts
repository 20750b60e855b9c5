import { expect, test } from 'vitest'
import { SpeculationWindow } from '../../../../node/source/pipeline/speculation-window.ts'
import { StepOrder } from '../../../../node/stage/step-order.ts'
import { prng } from '../../../fixtures/prng.ts'

const SCHEDULES = 4000
const PROMPT = [3, 1, 4, 1, 5]
const VOCABULARY = 7
const END = 6

/** A frame on its way: tokens fed from a position on, as far as the stages have got. */
interface Frame {
  position: number
  epoch: number
  /** What a stage makes of its input: the next one's input. */
  values: number[]
}

/** The arithmetic of the whole model: a value depends on all that is in the cache. */
function summed(cache: readonly number[]): number {
  return cache.reduce((hash, value) => (hash * 31 + value + 1) % 1_000_003, 7)
}

/** A stage of one session, by the rules of the wire: a queue of frames, and a KV cache that is only ever right by them. */
class ModelStage {
  readonly #order = new StepOrder(0)
  readonly #cache: number[] = []
  readonly waiting: Frame[] = []
  dropped = 0

  arrive(frame: Frame): void {
    if (this.#order.isStale(frame)) {
      this.dropped++
      return
    }
    this.#order.check(frame)
    this.#order.enter(frame, frame.values.length)
    this.waiting.push(frame)
  }

  drop(epoch: number): void {
    this.#order.dropBefore(epoch)
  }

  /** Computes the frame that has waited longest; undefined where it is stale. */
  compute(): Frame | undefined {
    const frame = this.waiting.shift()!
    if (this.#order.isStale(frame)) {
      this.dropped++
      return undefined
    }
    if (frame.position > this.#cache.length) throw new Error('a token is missing in the cache')
    this.#cache.length = frame.position
    const values = frame.values.map(value => {
      this.#cache.push(value)
      return summed(this.#cache)
    })
    return { ...frame, values }
  }
}

/** What the model draws, one token after the other, with no pipeline at all. */
function plain(stages: number, known: readonly number[], most: number, seed: number): number[] {
  const caches = Array.from({ length: stages }, (): number[] => [])
  const feed = (token: number) =>
    caches.reduce((value, cache) => {
      cache.push(value)
      return summed(cache)
    }, token)
  let value = 0
  for (const token of [...PROMPT, ...known]) value = feed(token)
  const drawn: number[] = []
  while (drawn.length < most) {
    const token = tokenOf(value, seed)
    drawn.push(token)
    if (token === END) break
    value = feed(token)
  }
  return drawn
}

/** Sampling is a function of the logits, the seed and, through the cache, of the position. */
function tokenOf(value: number, seed: number): number {
  return (value + seed) % VOCABULARY
}

interface Schedule {
  stages: number
  /** Guesses that may be under way, and tokens of one frame at most. */
  guesses: number
  frameTokens: number
  /** Share of guesses that are right. */
  right: number
  most: number
  /** Frames sent after which every stage is lost, and all begins again with what is known. */
  lossAfter: number
}

/** The session between source and stages, where a schedule drawn at random says what comes next. */
function speculated(schedule: Schedule, seed: number, random: () => number) {
  const { most, right, guesses, frameTokens } = schedule
  const truth = plain(schedule.stages, [], most, seed)
  const drawn: number[] = []
  const counts = { sent: 0, held: 0, dropped: 0, losses: 0 }
  let framesLeft = schedule.lossAfter
  const over = () => drawn.length === most || drawn.at(-1) === END

  while (!over()) {
    const known = [...PROMPT, ...drawn]
    const stages = Array.from({ length: schedule.stages }, () => new ModelStage())
    /** Links in order of the stages; the last one is the way back. */
    const links = Array.from({ length: schedule.stages + 1 }, (): Frame[] => [])
    /** News of epochs overtakes frames, or comes after them: it has ways of its own. */
    const news = Array.from({ length: schedule.stages }, (): number[] => [])
    const window = new SpeculationWindow(1)
    let prefilled = false
    links[0]!.push({ position: 0, epoch: 0, values: known })

    const send = (position: number, values: number[]) => {
      links[0]!.push({ position, epoch: window.epoch, values })
      framesLeft--
    }
    const guess = () => {
      const room = Math.min(guesses - (window.size - 1), most - drawn.length - window.size)
      const count = Math.min(room, 1 + Math.floor(random() * frameTokens))
      const values: number[] = []
      for (let i = 0; i < count; i++) {
        const next = truth[drawn.length + window.size - 1]
        if (next === undefined || next === END) break
        values.push(random() < right ? next : Math.floor(random() * (VOCABULARY - 1)))
        window.guess(values.at(-1)!)
      }
      counts.sent += values.length
      if (values.length > 0) send(window.oldest! + window.size - values.length, values)
    }
    const back = (frame: Frame) => {
      const tokens = frame.values.map(value => tokenOf(value, seed))
      if (!prefilled) {
        prefilled = true
        drawn.push(tokens.at(-1)!)
      } else {
        const kind = window.kindOf(frame.position, frame.epoch)
        if (kind === 'stale') return
        expect(kind).toBe('next')
        const judged = window.answer(tokens)
        drawn.push(...tokens.slice(0, judged.valid))
        counts.held += judged.held
        counts.dropped += judged.dropped
        if (judged.dropped > 0) for (const way of news) way.push(window.epoch)
      }
      if (over()) return
      if (window.size === 0) {
        window.feed(PROMPT.length + drawn.length - 1, drawn.at(-1)!)
        send(window.oldest!, [drawn.at(-1)!])
      }
    }

    while (!over() && framesLeft !== 0) {
      const events: (() => void)[] = []
      links.slice(0, -1).forEach((link, i) => {
        if (link.length > 0) events.push(() => stages[i]!.arrive(link.shift()!))
      })
      stages.forEach((stage, i) => {
        if (stage.waiting.length === 0) return
        events.push(() => {
          const frame = stage.compute()
          if (frame !== undefined) links[i + 1]!.push(frame)
        })
      })
      const way = links.at(-1)!
      if (way.length > 0) events.push(() => back(way.shift()!))
      news.forEach((epochs, i) => {
        if (epochs.length > 0) events.push(() => stages[i]!.drop(epochs.shift()!))
      })
      if (window.size > 0 && window.size <= guesses) events.push(guess)
      events[Math.floor(random() * events.length)]!()
    }
    if (over()) break
    framesLeft = -1
    counts.losses++
  }
  return { drawn, truth, counts }
}

test(`in ${SCHEDULES} schedules of arrivals, losses and wrong guesses the tokens are those of plain decoding`, () => {
  const all = { sent: 0, held: 0, dropped: 0, losses: 0, ends: 0 }
  for (let seed = 1; seed <= SCHEDULES; seed++) {
    const random = prng(seed)
    const below = (limit: number) => Math.floor(random() * limit)
    const schedule = {
      stages: 1 + below(4),
      guesses: below(6),
      frameTokens: 1 + below(3),
      right: [0, 0.3, 0.7, 1][below(4)]!,
      most: 1 + below(24),
      lossAfter: below(3) === 0 ? 1 + below(20) : -1
    }
    const { drawn, truth, counts } = speculated(schedule, below(1000), random)
    expect(drawn, `seed ${seed}: ${JSON.stringify(schedule)}`).toEqual(truth)
    for (const [name, count] of Object.entries(counts)) all[name as keyof typeof counts] += count
    if (truth.at(-1) === END) all.ends++
  }
  // The schedules have had all of it.
  for (const count of Object.values(all)) expect(count).toBeGreaterThan(SCHEDULES / 50)
  expect(all.held + all.dropped).toBeLessThanOrEqual(all.sent + SCHEDULES)
})

test('an answer out of turn, or of an epoch that has not begun, was not asked for; one of an earlier epoch is stale', () => {
  const window = new SpeculationWindow(1)
  expect(window.kindOf(5, 1)).toBe('unasked')
  window.feed(5, 40)
  window.guess(41)
  window.guess(42)
  expect([5, 6, 4].map(position => window.kindOf(position, 1))).toEqual(['next', 'unasked', 'unasked'])
  expect([window.kindOf(5, 2), window.kindOf(6, 0)]).toEqual(['unasked', 'stale'])
  expect(window.answer([41])).toEqual({ valid: 1, held: 1, dropped: 0 })
  expect([window.oldest, window.guesses]).toEqual([6, [42]])
  expect(window.answer([9])).toEqual({ valid: 1, held: 0, dropped: 1 })
  expect([window.size, window.epoch, window.kindOf(7, 1)]).toEqual([0, 2, 'stale'])
})

test('tokens cannot be fed out of order', () => {
  const window = new SpeculationWindow(1)
  expect(() => window.guess(1)).toThrow('follows a token')
  window.feed(3, 1)
  expect(() => window.feed(4, 2)).toThrow('waits for the answers')
})
