import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Move } from '../../../node/api.ts'
import { MOVE_AGAIN_MS, MOVE_LOOK_MS, MOVE_NEWS_MS } from '../../../node/constants.ts'
import type { Deployments } from '../../../node/source/placement/deployments.ts'
import { prng } from '../../fixtures/prng.ts'
import { pass, played, stopClock } from '../simulation/clock.ts'
import type { SimulatedMesh } from '../simulation/mesh.ts'
import { onMeeting } from '../simulation/peers.ts'
import { at, closed, drawn, join, movesIn, roomyMesh, undisturbed } from './moving-answer.ts'
import { OracleDraft } from './oracle-draft.ts'
import { type AnswerNeeds, drawAnswer, MODEL, needsOf } from './simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const LONG = needsOf(MODEL, { newTokens: 150 })

const devices = ({ to }: Pick<Move, 'to'>) => to.map(({ peerId }) => peerId)
const devicesOf = (deployments: Deployments) =>
  deployments.state().flatMap(({ plan }) => plan.stages.map(({ peerId }) => peerId))

describe('between two tokens a running answer goes over', () => {
  test('to a device that joins', async () => {
    const mesh = roomyMesh({ b: 30 })
    const { tokens, events, stream, deployments, gapsMs } = await played(
      drawn(
        mesh,
        at(20, () => join(mesh, 'c', 1))
      )
    )
    expect(tokens).toEqual(await undisturbed(LONG))
    const [move] = movesIn(events)
    expect(movesIn(events)).toEqual(stream.moves)
    expect([stream.recoveries, stream.moves.length]).toEqual([0, 1])
    expect(devices(move!)).toContain('c')
    expect(move!.reason).toBe('faster')
    expect(move!.predicted.afterMs).toBeLessThan(move!.predicted.beforeMs)
    expect(move!.predicted.savedMs).toBeGreaterThan(move!.predicted.costMs)
    // By the clock of the simulation, which is the same each time.
    expect(Math.max(...gapsMs)).toBeLessThanOrEqual(2 * gapsMs[0]!)
    const { loadMs, catchUpMs } = move!.spent
    const movedAfterMs = gapsMs.slice(19, move!.tokens).reduce((sum, ms) => sum + ms, 0)
    const decidedAfterMs = movedAfterMs - loadMs - catchUpMs
    expect(decidedAfterMs).toBeLessThanOrEqual(MOVE_LOOK_MS + MOVE_AGAIN_MS + 2 * gapsMs[0]!)
    expect(move!.spent.gapMs).toBe(gapsMs[move!.tokens - 1])
    // Each part of it has the prediction of the plan that was in force.
    const [before, after] = stream.stretches!
    expect([before!.tokens, after!.tokens]).toEqual([move!.tokens, tokens.length - move!.tokens])
    expect([before, after].map(part => part!.plan.stages)).toEqual([move!.from, move!.to])
    expect(after!.predicted.tpotMs).toBeLessThan(before!.predicted.tpotMs)
    expect(after!.measured!.steps).toBeGreaterThan(0)
    expect(before!.measured!.steps).toBeGreaterThan(0)
    await pass(1000)
    expect(mesh.get('b').empty).toBe(true)
    await closed(mesh, deployments)
  })

  test.each([15, 16, 17])(
    'to a device that joins at token %i as soon as two looks have found it better',
    async joinsAt => {
      const mesh = roomyMesh({ b: 30 })
      let [joinedAtMs, askedAtMs] = [0, 0]
      const joins = () => {
        joinedAtMs = performance.now()
        join(mesh, 'c', 1)
        onMeeting(mesh.get('c'), 'reserve', () => {
          askedAtMs = performance.now()
        })
      }
      const { stream, deployments } = await played(drawn(mesh, at(joinsAt, joins)))
      expect(stream.moves.length).toBe(1)
      // By the clock of the simulation, in which a few messages take a millisecond each.
      expect(askedAtMs - joinedAtMs).toBeGreaterThanOrEqual(MOVE_AGAIN_MS)
      expect(askedAtMs - joinedAtMs).toBeLessThan(MOVE_NEWS_MS + MOVE_AGAIN_MS + 20)
      await closed(mesh, deployments)
    }
  )

  test.each(['c b', 'drained'].flatMap(what => [15, 16, 17, 18].map(joinsAt => [what, joinsAt] as const)))(
    'to a device that joins as soon as that while another member changes without end: %s, at token %i',
    async (what, joinsAt) => {
      const mesh = roomyMesh({ b: 30, c: 40 })
      let [joinedAtMs, askedAtMs, n] = [0, 0, 0]
      const changes = setInterval(() => {
        n++
        if (what === 'drained') mesh.drain('c', n % 2 === 0)
        else mesh.linkMbps.set(what, n % 2 === 0 ? 1 : 1000)
        mesh.change()
      }, 20)
      const joins = () => {
        joinedAtMs = performance.now()
        join(mesh, 'd', 1)
        onMeeting(mesh.get('d'), 'reserve', () => {
          askedAtMs = performance.now()
        })
      }
      const { stream, deployments } = await played(drawn(mesh, at(joinsAt, joins)))
      clearInterval(changes)
      expect(stream.moves.length).toBe(1)
      expect(askedAtMs - joinedAtMs).toBeGreaterThanOrEqual(MOVE_AGAIN_MS)
      expect(askedAtMs - joinedAtMs).toBeLessThan(MOVE_NEWS_MS + MOVE_AGAIN_MS + 20)
      await closed(mesh, deployments)
    }
  )

  test('and what its placement took meanwhile is held against none', async () => {
    const mesh = roomyMesh({ b: 30 })
    const { deployments, planning } = mesh.get('a').source()
    const noted = vi.spyOn(planning.tried, 'note')
    const joining = at(20, () => join(mesh, 'c', 1))
    const { stream } = await played(drawn(mesh, joining, LONG, { deployments }))
    expect([stream.moves.length, noted.mock.calls]).toEqual([1, []])
    await played(drawn(mesh, () => {}, LONG, { deployments }))
    expect(noted).toHaveBeenCalledOnce()
    await closed(mesh, deployments)
  })

  test('from a link that falls', async () => {
    const needs = needsOf(MODEL, { newTokens: 300 })
    const mesh = roomyMesh({ b: 5, c: 6 }, 20)
    const { tokens, stream, deployments, gapsMs } = await played(
      drawn(
        mesh,
        at(20, () => {
          for (const link of ['a b', 'b a']) mesh.linkMbps.set(link, 0.1)
          mesh.change()
        }),
        needs
      )
    )
    expect(tokens).toEqual(await undisturbed(needs))
    expect([stream.recoveries, ...stream.moves.map(devices)]).toEqual([0, ['a', 'c']])
    expect(Math.max(...gapsMs)).toBeLessThanOrEqual(2 * gapsMs[0]!)
    await closed(mesh, deployments)
  })

  test('from a device that is drained, which is empty before the answer has ended', async () => {
    const mesh = roomyMesh({ b: 5, c: 6 }, 20)
    let emptyAt = 0
    const { tokens, stream, deployments, gapsMs } = await played(
      drawn(mesh, tokens => {
        if (tokens.length === 20) mesh.drain('b')
        if (emptyAt === 0 && mesh.get('b').empty) emptyAt = tokens.length
      })
    )
    expect(tokens).toEqual(await undisturbed(LONG))
    expect([stream.recoveries, ...stream.moves.map(({ reason }) => reason)]).toEqual([0, 'drained'])
    expect(Math.max(...gapsMs)).toBeLessThanOrEqual(2 * gapsMs[0]!)
    expect(emptyAt).toBeGreaterThan(20)
    await closed(mesh, deployments)
  })

  test('from a device that is drained while it is being left for a faster one', async () => {
    const mesh = roomyMesh({ b: 30 })
    const { tokens, stream, deployments } = await played(
      drawn(
        mesh,
        at(20, () => {
          join(mesh, 'c', 1)
          onMeeting(mesh.get('c'), 'load', () => mesh.drain('b'))
        })
      )
    )
    expect(tokens).toEqual(await undisturbed(LONG))
    expect([stream.recoveries, ...stream.moves.map(devices)]).toEqual([0, ['a', 'c']])
    await closed(mesh, deployments)
  })

  test('from a device that turns slow', async () => {
    const needs = needsOf(MODEL, { newTokens: 200 })
    const mesh = roomyMesh({ b: 5, c: 6 }, 20)
    const { tokens, stream, deployments } = await played(
      drawn(
        mesh,
        at(40, () => {
          mesh.get('b').runtime.speed.stepMs = 400
        }),
        needs
      )
    )
    expect(tokens).toEqual(await undisturbed(needs))
    expect([stream.recoveries, ...stream.moves.map(devices)]).toEqual([0, ['a', 'c']])
    await closed(mesh, deployments)
  })

  test('all sessions of the deployment together', async () => {
    const mesh = roomyMesh({ b: 5 }, 20)
    const { deployments } = mesh.get('a').source()
    const needs = [0, 1, 2].map(i =>
      needsOf(MODEL, { prompt: Array.from({ length: 40 + i }, (_, j) => 7 + i + j), newTokens: 200 })
    )
    const expected = []
    for (const each of needs) expected.push(await undisturbed(each))
    const answers = await played(
      Promise.all(
        needs.map((each, i) =>
          drawn(
            mesh,
            at(20, () => {
              if (i === 0) join(mesh, 'c', 1)
              if (i === 0) mesh.drain('b')
            }),
            each,
            { deployments }
          )
        )
      )
    )
    expect(answers.map(({ tokens }) => tokens)).toEqual(expected)
    const told = answers.map(({ stream }) => [stream.recoveries, stream.moves.length])
    expect(told).toEqual(Array(3).fill([0, 1]))
    for (const { gapsMs, stream } of answers) {
      expect(stream.moves[0]!.spent.gapMs).toBeLessThanOrEqual(2 * gapsMs[10]!)
      // No prompt of them waits until the others are level.
      expect(stream.moves[0]!.tokens).toBeLessThan(80)
    }
    await closed(mesh, deployments)
  })

  test('with guesses under way, and guesses where it goes on', async () => {
    const twin = await undisturbed(LONG)
    const mesh = roomyMesh({ b: 5 }, 20)
    const { vocabSize } = MODEL.manifest.shape
    const draft = new OracleDraft({ promptTokens: LONG.prompt.length, answer: twin, right: 0.9, vocabSize })
    const { tokens, stream, deployments } = await played(
      drawn(
        mesh,
        at(20, () => {
          join(mesh, 'c', 1)
          mesh.drain('b')
        }),
        { ...LONG, draft }
      )
    )
    expect(tokens).toEqual(twin)
    expect([stream.recoveries, stream.moves.length]).toEqual([0, 1])
    expect(stream.guesses!.held).toBeGreaterThan(0)
    await closed(mesh, deployments)
  })

  test('priced with its guesses where it runs alone', async () => {
    const priced = async (needs: AnswerNeeds, together: number) => {
      const mesh = roomyMesh({ b: 10, c: 11 }, 20)
      const { deployments } = mesh.get('a').source()
      const draining = at(20, () => mesh.drain('b'))
      const long = { ...needs, newTokens: 400 }
      const all = Array.from({ length: together }, () => drawn(mesh, draining, long, { deployments }))
      const [first] = await played(Promise.all(all))
      await closed(mesh, deployments)
      return first!.stream.moves[0]!.predicted
    }
    const guessing = { ...LONG, guesses: { acceptance: 0.9, draftBytes: 0 } }
    const plain = await priced(LONG, 1)
    const guessed = await priced(guessing, 1)
    const shared = await priced(guessing, 2)
    expect(guessed.beforeMs).toBeLessThan(plain.beforeMs)
    expect(guessed.afterMs).toBeLessThan(plain.afterMs)
    expect([shared.beforeMs, shared.afterMs]).toEqual([plain.beforeMs, plain.afterMs])
  })

  test('priced with what other conversations have to compute again', async () => {
    const priced = async (before: AnswerNeeds[]) => {
      const mesh = roomyMesh({ b: 10, c: 11 }, 20)
      const { deployments } = mesh.get('a').source()
      for (const needs of before) await played(drawn(mesh, () => {}, needs, { deployments }))
      const [move] = (
        await played(
          drawn(
            mesh,
            at(20, () => mesh.drain('b')),
            { ...LONG, newTokens: 200 },
            { deployments }
          )
        )
      ).stream.moves
      await closed(mesh, deployments)
      return move!.predicted
    }
    const prompt = Array.from({ length: 120 }, (_, i) => (i * 31) % 200)
    const other = needsOf(MODEL, { prompt, newTokens: 8, scope: 'another' })
    // Of clients that are not known nobody comes back to it.
    const nobodys = await priced([{ ...other, scope: '' }])
    expect((await priced([other])).costMs).toBeGreaterThan(nobodys.costMs)
  })

  test('with what it repeats counted, a minimum of tokens, and exact', async () => {
    const penalties = { repetition: 1.3, frequency: 0.5, presence: 0.2, window: 64 }
    const sampling = {
      temperature: 0.8,
      topP: 0.9,
      seed: 7,
      topLogprobs: 0,
      penalties,
      minTokens: 90,
      ends: [3]
    }
    const needs = needsOf(MODEL, { newTokens: 100, sampling, exact: true })
    const mesh = roomyMesh({ b: 5, c: 6 }, 20)
    const { tokens, stream, deployments } = await played(
      drawn(
        mesh,
        at(20, () => mesh.drain('b')),
        needs
      )
    )
    expect(tokens).toEqual(await undisturbed(needs))
    expect([stream.recoveries, stream.moves.length, stream.exact]).toEqual([0, 1, true])
    await closed(mesh, deployments)
  })

  test('held to a grammar', async () => {
    const masked: number[] = []
    const grammar = {
      maskAfter: async (tokens: readonly number[]) => {
        masked.push(tokens.length)
        return undefined as never
      },
      close: () => {}
    }
    const mesh = roomyMesh({ b: 5, c: 6 }, 20)
    const { tokens, stream, deployments } = await played(
      drawn(
        mesh,
        at(20, () => mesh.drain('b')),
        { ...LONG, grammar }
      )
    )
    expect(tokens).toEqual(await undisturbed(LONG))
    expect(stream.moves.length).toBe(1)
    expect(Math.max(...masked)).toBe(LONG.newTokens - 1)
    await closed(mesh, deployments)
  })

  test('and its conversation goes on there, from what was built up', async () => {
    const mesh = roomyMesh({ b: 5, c: 6 }, 20)
    const first = await played(
      drawn(
        mesh,
        at(20, () => mesh.drain('b')),
        { ...LONG, scope: 'me' }
      )
    )
    expect(first.stream.moves.length).toBe(1)
    const prompt = [...LONG.prompt, ...first.tokens, 8, 9]
    const next = needsOf(MODEL, { prompt, scope: 'me' })
    const second = await played(drawAnswer(first.deployments, next))
    expect(second.stream.cachedTokens).toBe(LONG.prompt.length + LONG.newTokens - 1)
    expect(second.tokens).toEqual(await undisturbed(next))
    await closed(mesh, first.deployments)
  })

  test('one that had a turn before it, and moves a second time', async () => {
    const mesh = roomyMesh({ b: 5, c: 6 }, 20)
    const { deployments } = mesh.get('a').source()
    const first = await played(drawAnswer(deployments, needsOf(MODEL, { scope: 'me' })))
    const prompt = [...needsOf().prompt, ...first.tokens, ...Array.from({ length: 50 }, (_, i) => i + 4)]
    const next = needsOf(MODEL, { prompt, scope: 'me', newTokens: 400 })
    const second = await played(
      drawn(
        mesh,
        tokens => {
          if (tokens.length === 20) mesh.drain('b')
          if (tokens.length === 120) {
            mesh.drain('b', false)
            mesh.drain('c')
          }
        },
        next,
        { deployments }
      )
    )
    expect(second.tokens).toEqual(await undisturbed(next))
    expect([second.stream.recoveries, second.stream.moves.length]).toEqual([0, 2])
    await closed(mesh, deployments)
  })
})

describe('a running answer stays', () => {
  test('where a device joins that is hardly faster', async () => {
    const mesh = roomyMesh({ b: 5 })
    const { stream, deployments } = await played(
      drawn(
        mesh,
        at(20, () => join(mesh, 'c', 4.8))
      )
    )
    expect(stream.moves).toEqual([])
    expect(mesh.get('c').empty).toBe(true)
    await closed(mesh, deployments)
  })

  test('where too few tokens are left to make up for it', async () => {
    const mesh = roomyMesh({ b: 30 })
    const { stream, deployments } = await played(
      drawn(
        mesh,
        at(130, () => join(mesh, 'c', 1))
      )
    )
    expect(stream.moves).toEqual([])
    await closed(mesh, deployments)
  })

  test('where it is when a link only varies', async () => {
    const mesh = roomyMesh({ b: 5, c: 6 }, 20)
    const random = prng(1)
    const { stream, deployments } = await played(
      drawn(mesh, () => {
        for (const link of ['a b', 'b a', 'a c', 'c a']) mesh.linkMbps.set(link, 200 + 800 * random())
      })
    )
    expect(stream.moves).toEqual([])
    await closed(mesh, deployments)
  })

  test('where a device joins over a link that proves to be slow when it is looked at', async () => {
    const mesh = roomyMesh({ b: 30 })
    const { peers } = mesh.get('a')
    peers.onGlance = () => {
      for (const link of ['a c', 'c a']) mesh.linkMbps.set(link, 0.01)
    }
    const { stream, deployments } = await played(
      drawn(
        mesh,
        at(20, () => join(mesh, 'c', 1))
      )
    )
    expect(peers.glanced).toEqual(['c'])
    expect(stream.moves).toEqual([])
    expect(mesh.get('c').empty).toBe(true)
    await closed(mesh, deployments)
  })

  test('where another link is fast for a moment, however often the directory changes meanwhile', async () => {
    const mesh = roomyMesh({ b: 30, c: 1 })
    const setMbps = (mbps: number) => {
      for (const link of ['a c', 'c a']) mesh.linkMbps.set(link, mbps)
      mesh.change()
    }
    setMbps(0.01)
    const { stream, deployments } = await played(
      drawn(
        mesh,
        at(20, () => {
          setMbps(1000)
          const changes = setInterval(() => mesh.change(), 20)
          setTimeout(() => {
            clearInterval(changes)
            setMbps(0.01)
          }, MOVE_AGAIN_MS - 20)
        })
      )
    )
    expect(stream.moves).toEqual([])
    expect(mesh.get('c').empty).toBe(true)
    await closed(mesh, deployments)
  })

  test.each([
    ['its links', (mesh: SimulatedMesh, n: number) => mesh.linkMbps.set('c b', n % 2 === 0 ? 1 : 1000)],
    ['whether it is drained', (mesh: SimulatedMesh, n: number) => mesh.drain('c', n % 2 === 0)]
  ])(
    'where a member changes %s without end, which has it looked at a few times a second',
    async (_, change) => {
      const mesh = roomyMesh({ b: 5, c: 30 }, 20)
      const { deployments, planning } = mesh.get('a').source()
      const solved = vi.spyOn(planning, 'solve')
      let [startMs, n] = [0, 0]
      let changes: NodeJS.Timeout | undefined
      const onToken = at(10, () => {
        startMs = performance.now()
        solved.mockClear()
        changes = setInterval(() => {
          change(mesh, n++)
          mesh.change()
        }, 20)
      })
      const { stream } = await played(drawn(mesh, onToken, LONG, { deployments }))
      clearInterval(changes)
      const seconds = (performance.now() - startMs) / 1000
      expect(seconds).toBeGreaterThan(2)
      // Two plans a look.
      expect(solved.mock.calls.length / 2).toBeLessThan(8 + 2.5 * seconds)
      expect(solved.mock.calls.length).toBeGreaterThan(0)
      expect(stream.moves).toEqual([])
      await closed(mesh, deployments)
    }
  )

  test.each(['reserve', 'load', 'open'] as const)(
    'where the next device dies when it is asked to %s',
    async what => {
      const mesh = roomyMesh({ b: 30 })
      const { tokens, stream, deployments } = await played(
        drawn(
          mesh,
          at(20, () => {
            join(mesh, 'c', 1)
            onMeeting(mesh.get('c'), what, () => mesh.vanish('c'))
          })
        )
      )
      expect(tokens).toEqual(await undisturbed(LONG))
      expect([stream.recoveries, stream.moves]).toEqual([0, []])
      expect(devicesOf(deployments)).toEqual(['a', 'b'])
      await closed(mesh, deployments)
    }
  )

  test.each([1, 3, 10, 20])('where the next device dies with its frame %i', async nth => {
    const mesh = roomyMesh({ b: 30 })
    const { tokens, stream, deployments } = await played(
      drawn(
        mesh,
        at(20, () => {
          join(mesh, 'c', 1)
          onMeeting(mesh.get('c'), 'frame', () => mesh.vanish('c'), nth)
        })
      )
    )
    expect(tokens).toEqual(await undisturbed(LONG))
    expect(stream.recoveries).toBe(0)
    expect(devicesOf(deployments)).toEqual(['a', 'b'])
    await closed(mesh, deployments)
  })

  test('or comes back, where the next device has no numbers for it as soon as it has gone over', async () => {
    const mesh = roomyMesh({ b: 30 })
    const { deployments } = mesh.get('a').source()
    let spoilt = false
    const { tokens, stream } = await played(
      drawn(
        mesh,
        at(20, () => {
          join(mesh, 'c', 1)
          const { peers, runtime } = mesh.get('c')
          const before = peers.meet
          peers.meet = async (met, from) => {
            await before(met, from)
            if (spoilt || met !== 'frame' || !devicesOf(deployments).includes('c')) return
            spoilt = true
            runtime.damaged = true
            setTimeout(() => {
              runtime.damaged = false
            }, 100)
          }
        }),
        LONG,
        { deployments }
      )
    )
    expect(spoilt).toBe(true)
    expect(tokens).toEqual(await undisturbed(LONG))
    expect(stream.moves).toEqual([])
    await closed(mesh, deployments)
  })

  test('where the next devices draw another token', async () => {
    const mesh = roomyMesh({ b: 30 })
    const { tokens, stream, deployments } = await played(
      drawn(
        mesh,
        at(20, () => {
          join(mesh, 'c', 1)
          mesh.get('c').runtime.draws = id => (id + 1) % 50
        })
      )
    )
    expect(tokens).toEqual(await undisturbed(LONG))
    expect([stream.recoveries, stream.moves]).toEqual([0, []])
    await closed(mesh, deployments)
  })
})

describe('while an answer is on its way to other devices', () => {
  test('these take it over at once where those that it runs on die', async () => {
    const mesh = roomyMesh({ b: 30 })
    const { tokens, stream, deployments } = await played(
      drawn(
        mesh,
        at(20, () => {
          join(mesh, 'c', 1)
          onMeeting(mesh.get('c'), 'frame', () => mesh.vanish('b'), 8)
        })
      )
    )
    expect(tokens).toEqual(await undisturbed(LONG))
    expect([stream.recoveries, stream.moves.length]).toEqual([0, 1])
    expect(devicesOf(deployments)).toEqual(['a', 'c'])
    await closed(mesh, deployments)
  })

  test('it recovers where those that it runs on die before the others are loaded', async () => {
    const mesh = roomyMesh({ b: 30 })
    const { tokens, stream, deployments } = await played(
      drawn(
        mesh,
        at(20, () => {
          join(mesh, 'c', 1)
          onMeeting(mesh.get('c'), 'load', () => mesh.vanish('b'))
        })
      )
    )
    expect(tokens).toEqual(await undisturbed(LONG))
    expect([stream.recoveries, stream.moves.length]).toEqual([1, 0])
    await closed(mesh, deployments)
  })

  test.each([4, 30, 60])('its client may go, at frame %i', async nth => {
    const mesh = roomyMesh({ b: 30 })
    const { deployments } = mesh.get('a').source()
    const client = new AbortController()
    const answer = drawn(
      mesh,
      at(20, () => {
        join(mesh, 'c', 1)
        onMeeting(mesh.get('c'), 'frame', () => client.abort(new Error('gone')), nth)
      }),
      LONG,
      { deployments, signal: client.signal }
    )
    await expect(played(answer)).rejects.toThrow('gone')
    await closed(mesh, deployments)
  })

  test('it may end, and the next prompt is drawn there', async () => {
    const mesh = roomyMesh({ b: 5, c: 6 }, 20)
    const needs = needsOf(MODEL, { newTokens: 24 })
    const { tokens, deployments } = await played(
      drawn(
        mesh,
        at(20, () => mesh.drain('b')),
        needs
      )
    )
    expect(tokens).toEqual(await undisturbed(needs))
    await pass(5000)
    expect(mesh.get('b').empty).toBe(true)
    const next = await played(drawAnswer(deployments, LONG))
    expect(next.tokens).toEqual(await undisturbed(LONG))
    await closed(mesh, deployments)
  })

  test('another one that begins goes over with it', async () => {
    const mesh = roomyMesh({ b: 5, c: 6 }, 20)
    const { deployments } = mesh.get('a').source()
    let later: ReturnType<typeof drawn> | undefined
    const first = await played(
      drawn(
        mesh,
        tokens => {
          if (tokens.length !== 20) return
          mesh.drain('b')
          onMeeting(mesh.get('c'), 'open', () => {
            later = drawn(mesh, () => {}, LONG, { deployments })
          })
        },
        LONG,
        { deployments }
      )
    )
    const second = await played(later!)
    expect([first.tokens, second.tokens]).toEqual([await undisturbed(LONG), await undisturbed(LONG)])
    expect([first, second].map(({ stream }) => stream.recoveries)).toEqual([0, 0])
    await closed(mesh, deployments)
  })

  test.each([500, 12_000])('one that is read slowly, each %i ms, goes on from its next token', async ms => {
    const needs = needsOf(MODEL, { newTokens: 45 })
    const mesh = roomyMesh({ b: 5, c: 6 }, 20)
    const { tokens, stream, deployments } = await played(
      drawn(
        mesh,
        async tokens => {
          if (tokens.length === 20) mesh.drain('b')
          if (tokens.length >= 20 && tokens.length < 26) await new Promise(resolve => setTimeout(resolve, ms))
        },
        needs
      )
    )
    expect(tokens).toEqual(await undisturbed(needs))
    expect([stream.recoveries, stream.moves.length]).toEqual([0, 1])
    await closed(mesh, deployments)
  })
})
