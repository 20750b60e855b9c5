import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { CONTEXT_STEP_TOKENS, GROWTH_FACTORS, WAIT_FOR_PEERS_MS } from '../../../../node/constants.ts'
import { PlanRefusedError, StageLostError } from '../../../../node/errors.ts'
import type { Deployments } from '../../../../node/source/placement/deployments.ts'
import { OfferRefusedError } from '../../../../node/source/placement/recruit.ts'
import { TokenStream } from '../../../../node/source/request/token-stream.ts'
import { RefusedError } from '../../../../protocols/lease/index.ts'
import { pass, played, settle, stopClock } from '../../simulation/clock.ts'
import type { SimulatedMesh } from '../../simulation/mesh.ts'
import { type Meeting, onMeeting } from '../../simulation/peers.ts'
import { drawAnswer, meshOf, needsOf } from '../simulated-answer.ts'

let undisturbed: number[]
beforeEach(async () => {
  stopClock()
  const { deployments } = meshOf(['a', 'b', 'c']).get('a').source()
  undisturbed = (await played(drawAnswer(deployments))).tokens
})
afterEach(() => void vi.useRealTimers())

test('an answer is drawn through three devices, and leaves nothing behind when they are given back', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  const { tokens, events, stream } = await played(drawAnswer(deployments))
  expect(stream.plan.stages.map(({ peerId }) => peerId)).toEqual(['a', 'b', 'c'])
  expect(events.map(({ type }) => type)).toEqual([...Array(events.length - 1).fill('progress'), 'plan'])
  expect(tokens).toEqual(undisturbed)
  expect(stream).toMatchObject({ recoveries: 0, cachedTokens: 0, measured: { steps: 7, sequences: 1 } })
  expect(stream.predicted!.tpotMs).toBeGreaterThan(0)
  expect(mesh.empty).toBe(false)
  await played(deployments.close())
  expect(mesh.empty).toBe(true)
})

test('the next turn of a conversation finds in the KV caches what the last one left', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  const first = await played(drawAnswer(deployments))
  const prompt = [...needsOf().prompt, ...first.tokens, 8, 9]
  const next = await played(drawAnswer(deployments, needsOf(undefined, { prompt })))
  expect(next.stream.cachedTokens).toBe(prompt.length - 3)
  const anew = meshOf(['a', 'b', 'c']).get('a').source()
  expect((await played(drawAnswer(anew.deployments, needsOf(undefined, { prompt })))).tokens).toEqual(
    next.tokens
  )
})

describe('an answer whose length nobody knows', () => {
  const MOST = 700
  const endless = () => needsOf(undefined, { mostTokens: MOST })
  const whole = async () => {
    const { deployments } = meshOf(['a', 'b', 'c'], 2).get('a').source()
    return (await played(drawAnswer(deployments, needsOf(undefined, { newTokens: MOST })))).tokens
  }
  const contextOf = (mesh: SimulatedMesh) => {
    const [lease] = mesh.get('a').room.leases.state(() => 0)
    return lease!.bytes
  }

  test('goes on behind the KV caches that it was given, with the tokens that it would have had', async () => {
    const mesh = meshOf(['a', 'b', 'c'], 0.8)
    const { deployments } = mesh.get('a').source()
    let first = 0
    const drawn = await played(
      drawAnswer(deployments, endless(), {
        onToken: () => {
          first ||= contextOf(mesh)
        }
      })
    )
    expect(drawn.tokens).toEqual(await whole())
    expect(drawn.events.filter(({ type }) => type === 'plan').length).toBeGreaterThan(1)
    expect(contextOf(mesh)).toBeGreaterThan(first)
    expect(drawn.stream.recoveries).toBe(0)
    await played(deployments.close())
    expect(mesh.empty).toBe(true)
  })

  test('ends where the mesh has no memory for larger ones', async () => {
    const mesh = meshOf(['a', 'b', 'c'])
    const { deployments } = mesh.get('a').source()
    const { tokens } = await played(drawAnswer(deployments, endless()))
    expect(tokens).toHaveLength(CONTEXT_STEP_TOKENS - needsOf().prompt.length)
    expect(tokens).toEqual((await whole()).slice(0, tokens.length))
    await pass(10)
    expect(mesh.get('a').room.sessions.open).toBe(0)
    // The next one finds a place.
    expect((await played(drawAnswer(deployments))).tokens).toEqual(undisturbed)
  })

  test.each([
    ['is lost', new StageLostError('stage lost: b', 'b')],
    ['refuses', new OfferRefusedError('b', 'b refused')],
    ['is nowhere', new PlanRefusedError('model fits nowhere')]
  ])('ends where whoever was to give it larger ones %s, however little larger', async (_, failure) => {
    const { deployments } = meshOf(['a', 'b', 'c'], 0.8).get('a').source()
    const asked: number[] = []
    const failing = {
      acquire: (...args: Parameters<Deployments['acquire']>) => {
        asked.push(args[0].newTokens)
        if (asked.length > 1) throw failure
        return deployments.acquire(...args)
      }
    }
    const { tokens } = await played(drawAnswer(failing as Deployments, endless()))
    expect(tokens).toEqual((await whole()).slice(0, tokens.length))
    expect(tokens.length).toBeGreaterThan(needsOf().newTokens)
    expect(asked).toHaveLength(1 + GROWTH_FACTORS.length)
    expect(asked[2]).toBeLessThan(asked[1]!)
  })

  test('beside another one: both go on, and neither loses a token', async () => {
    const mesh = meshOf(['a', 'b', 'c'], 0.8)
    const { deployments } = mesh.get('a').source()
    const both = await played(
      Promise.all([drawAnswer(deployments, endless()), drawAnswer(deployments, endless())])
    )
    const alone = await whole()
    for (const { tokens } of both) expect(tokens).toEqual(alone)
    await played(deployments.close())
    expect(mesh.empty).toBe(true)
  })

  test('loses a stage behind that, and goes on', async () => {
    const mesh = meshOf(['a', 'b', 'c', 'd'], 0.8)
    const { deployments } = mesh.get('a').source()
    const lost = () => stagesBeside(deployments)[0]!
    const { tokens, stream } = await played(
      drawAnswer(deployments, endless(), {
        onToken: known => {
          if (known.length === 600) mesh.vanish(lost())
        }
      })
    )
    expect(stream.recoveries).toBe(1)
    expect(tokens).toEqual(await whole())
  })
})

describe('an answer for all of which nobody has the room', () => {
  const ROOM = CONTEXT_STEP_TOKENS - needsOf().prompt.length
  const asked = (newTokens: number) => needsOf(undefined, { newTokens })
  const whole = async () => {
    const { deployments } = meshOf(['a', 'b', 'c'], 2).get('a').source()
    return (await played(drawAnswer(deployments, asked(700)))).tokens
  }

  test.each([700, ROOM + 1])('has as much as there is room for, of %i tokens', async newTokens => {
    const mesh = meshOf(['a', 'b', 'c'])
    const { deployments } = mesh.get('a').source()
    const { tokens, stream } = await played(drawAnswer(deployments, asked(newTokens)))
    expect(tokens).toEqual((await whole()).slice(0, ROOM))
    expect(stream.recoveries).toBe(0)
    await played(deployments.close())
    expect(mesh.empty).toBe(true)
  })

  test('waits for no late peers where there is room for part of it', async () => {
    const { deployments } = meshOf(['a', 'b', 'c']).get('a').source()
    const startMs = Date.now()
    let firstMs = 0
    const onToken = ({ length }: number[]) => {
      if (length === 1) firstMs = Date.now() - startMs
    }
    await played(drawAnswer(deployments, asked(700), { onToken }))
    expect(firstMs).toBeGreaterThan(0)
    expect(firstMs).toBeLessThan(WAIT_FOR_PEERS_MS)
    await played(deployments.close())
  })

  test('is placed with a late peer where there is room for nothing of it before', async () => {
    const mesh = meshOf(['a', 'b'])
    const { deployments } = mesh.get('a').source()
    const drawing = drawAnswer(deployments, asked(700))
    await pass(WAIT_FOR_PEERS_MS - 1000)
    mesh.add('late', { memoryBytes: mesh.get('b').room.leases.budgetBytes })
    expect((await played(drawing)).tokens).toEqual((await whole()).slice(0, ROOM))
    await played(deployments.close())
  })

  test('leaves the model where it is, and the next turn goes on from its cache', async () => {
    const mesh = meshOf(['a', 'b', 'c'])
    const { deployments } = mesh.get('a').source()
    const turn = (prompt = needsOf().prompt) =>
      played(drawAnswer(deployments, needsOf(undefined, { prompt, newTokens: 700, scope: 'mine' })))
    const first = await turn()
    const loads = () => [...mesh.nodes.values()].flatMap(({ runtime }) => runtime.loads).length
    const loaded = loads()
    const said = [...needsOf().prompt, ...first.tokens.slice(0, 20)]
    const next = await turn([...said, 8, 9])
    expect(next.stream.cachedTokens).toBe(said.length)
    expect(next.tokens).toHaveLength(CONTEXT_STEP_TOKENS - said.length - 2)
    expect(loads()).toBe(loaded)
    await played(deployments.close())
    expect(mesh.empty).toBe(true)
  })

  test('goes on so after a loss', async () => {
    const mesh = meshOf(['a', 'b', 'c', 'd'])
    const { deployments } = mesh.get('a').source()
    const { tokens, stream } = await played(
      drawAnswer(deployments, asked(700), {
        onToken: known => {
          if (known.length === 9) mesh.vanish(stagesBeside(deployments)[0]!)
        }
      })
    )
    expect(stream.recoveries).toBe(1)
    expect(tokens).toEqual((await whole()).slice(0, tokens.length))
    expect(tokens.length).toBeGreaterThanOrEqual(ROOM)
  })

  test('is refused where not even the prompt has it, no later than one of a single token', async () => {
    const refusedAfterMs = async (newTokens: number) => {
      const { deployments } = meshOf(['a', 'b']).get('a').source()
      const startMs = Date.now()
      await expect(played(drawAnswer(deployments, asked(newTokens)))).rejects.toThrow(PlanRefusedError)
      return Date.now() - startMs
    }
    expect(await refusedAfterMs(700)).toBeLessThan((await refusedAfterMs(1)) + WAIT_FOR_PEERS_MS)
  })
})

function stagesBeside(deployments: Deployments): string[] {
  const [deployment] = deployments.state()
  return deployment!.plan.stages.map(({ peerId }) => peerId).filter(id => id !== 'a')
}

/** Every time that the middle one of three stages is asked something: of frames there are a prompt's and seven steps'. */
const MEETINGS: [what: Meeting, nth: number][] = [
  ['connect', 1],
  ['reserve', 1],
  ['manifest', 1],
  ['load', 1],
  ['open', 1],
  ...Array.from({ length: 8 }, (_, i): [Meeting, number] => ['frame', i + 1])
]
const LOSSES: [way: string, lose: (mesh: SimulatedMesh, id: string) => void][] = [
  ['vanishes', (mesh, id) => mesh.vanish(id)],
  ['falls silent', (mesh, id) => void mesh.silence(id)]
]
/** These have no part in the answer yet: the model is placed without them. */
const BEFORE_THE_ANSWER = new Set<Meeting>(['connect', 'reserve', 'manifest', 'load', 'open'])

describe.each(LOSSES)('a stage that %s', (_, lose) => {
  const cases = MEETINGS.flatMap(([what, nth]) => ['b', 'c'].map(id => ({ what, nth, id })))
  test.each(cases)('at $what $nth of $id is replaced by the device to spare', async ({ what, nth, id }) => {
    const mesh = meshOf(['a', 'b', 'c', 'd'])
    const { deployments } = mesh.get('a').source()
    // A manifest is asked of the source.
    if (what === 'manifest') onMeeting(mesh.get('a'), what, () => lose(mesh, id), nth)
    else onMeeting(mesh.get(id), what, () => lose(mesh, id), nth)
    const { tokens, stream, events } = await played(drawAnswer(deployments))
    expect(tokens).toEqual(undisturbed)
    const begun = !BEFORE_THE_ANSWER.has(what)
    expect(stream.recoveries).toBe(begun ? 1 : 0)
    expect(events.filter(({ type }) => type === 'recovered')).toHaveLength(begun ? 1 : 0)
    expect(stream.plan.stages.map(({ peerId }) => peerId)).not.toContain(id)
    await played(deployments.close())
    expect(mesh.empty).toBe(true)
  })

  test.each(['close', 'release'] as const)('at %s keeps nobody waiting', async what => {
    const mesh = meshOf(['a', 'b', 'c'])
    const { deployments } = mesh.get('a').source()
    onMeeting(mesh.get('b'), what, () => lose(mesh, 'b'))
    expect((await played(drawAnswer(deployments))).tokens).toEqual(undisturbed)
    await played(deployments.close())
    expect(mesh.empty).toBe(true)
  })
})

test('stages behind the lost one keep their KV caches where another device takes its place', async () => {
  const mesh = meshOf(['a', 'b', 'c', 'd'])
  const { deployments } = mesh.get('a').source()
  onMeeting(mesh.get('b'), 'frame', () => mesh.vanish('b'), 5)
  const { tokens, stream } = await played(drawAnswer(deployments))
  expect(tokens).toEqual(undisturbed)
  expect(stream.plan.stages.map(({ peerId }) => peerId)).toEqual(['a', 'd', 'c'])
  expect(mesh.get('c').peers.met.get('relink')).toBe(1)
  // The prompt and seven steps: nothing twice.
  expect(mesh.get('c').peers.met.get('frame')).toBe(8)
  expect(mesh.get('c').runtime.loads).toHaveLength(1)
})

test.each([1, 4])('two stages that are lost at once, at frame %i, are both replaced', async nth => {
  const mesh = meshOf(['a', 'b', 'c', 'd', 'e'])
  const { deployments } = mesh.get('a').source()
  onMeeting(
    mesh.get('c'),
    'frame',
    () => {
      mesh.vanish('b')
      mesh.vanish('c')
    },
    nth
  )
  const { tokens } = await played(drawAnswer(deployments))
  expect(tokens).toEqual(undisturbed)
  await played(deployments.close())
  expect(mesh.empty).toBe(true)
})

test.each(MEETINGS.filter(([what]) => what !== 'manifest' && what !== 'connect'))(
  'a device that is lost at %s %i while it takes a lost one’s place is replaced as well',
  async (what, nth) => {
    const mesh = meshOf(['a', 'b', 'c', 'd', 'e'])
    const { deployments } = mesh.get('a').source()
    onMeeting(mesh.get('b'), 'frame', () => mesh.vanish('b'), 4)
    onMeeting(mesh.get('d'), what, () => mesh.vanish('d'), nth)
    const { tokens } = await played(drawAnswer(deployments))
    expect(tokens).toEqual(undisturbed)
    await played(deployments.close())
    expect(mesh.empty).toBe(true)
  }
)

test('a neighbour that does not take its new neighbour leads to a new deployment', async () => {
  const mesh = meshOf(['a', 'b', 'c', 'd'])
  const { deployments } = mesh.get('a').source()
  onMeeting(mesh.get('b'), 'frame', () => mesh.vanish('b'), 4)
  onMeeting(mesh.get('c'), 'relink', () => {
    throw new RefusedError('expired', 'the lease has expired')
  })
  const { tokens } = await played(drawAnswer(deployments))
  expect(tokens).toEqual(undisturbed)
  await played(deployments.close())
  expect(mesh.empty).toBe(true)
})

test('where the rest cannot hold the model, the loss is the answer’s end', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  onMeeting(mesh.get('c'), 'frame', () => mesh.vanish('c'), 4)
  const got: number[] = []
  const drawing = drawAnswer(deployments, needsOf(), {
    onToken: tokens => void got.splice(0, got.length, ...tokens)
  })
  await expect(played(drawing)).rejects.toMatchObject({
    name: 'StageLostError',
    peerId: 'c',
    message: expect.stringContaining('the rest cannot hold the model')
  })
  expect(got).toEqual(undisturbed.slice(0, 3))
  await played(deployments.close())
  expect(mesh.empty).toBe(true)
})

test('a device that joins in time takes the place of a lost one', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  const memoryBytes = mesh.get('b').room.leases.budgetBytes
  onMeeting(mesh.get('c'), 'frame', () => {
    mesh.vanish('c')
    setTimeout(() => mesh.add('late', { memoryBytes }), 2000)
  })
  const { tokens, stream } = await played(drawAnswer(deployments))
  expect(tokens).toEqual(undisturbed)
  expect(stream.plan.stages.map(({ peerId }) => peerId)).toContain('late')
})

test('a stage whose worker fails is lost, and not taken again', async () => {
  const mesh = meshOf(['a', 'b', 'c', 'd'])
  const { deployments } = mesh.get('a').source()
  onMeeting(
    mesh.get('b'),
    'frame',
    () => {
      mesh.get('b').runtime.failing.step = new Error('no memory')
    },
    3
  )
  const { tokens, stream, events } = await played(drawAnswer(deployments))
  expect(tokens).toEqual(undisturbed)
  expect(events.find(({ type }) => type === 'recovery')).toMatchObject({
    peerId: 'b',
    reason: expect.stringContaining('no memory')
  })
  expect(stream.plan.stages.map(({ peerId }) => peerId)).not.toContain('b')
})

test('a session whose numbers are not finite ends its answer, and no stage is lost', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  onMeeting(mesh.get('c'), 'frame', () => void (mesh.get('b').runtime.damaged = true), 3)
  await expect(played(drawAnswer(deployments))).rejects.toMatchObject({ name: 'NotFiniteError' })
  mesh.get('b').runtime.damaged = false
  expect((await played(drawAnswer(deployments))).tokens).toEqual(undisturbed)
})

test('a stage that hangs, though its network does not, is found out by the deadline', async () => {
  const mesh = meshOf(['a', 'b', 'c', 'd'])
  const { deployments } = mesh.get('a').source()
  onMeeting(mesh.get('b'), 'frame', () => new Promise(() => {}), 4)
  onMeeting(mesh.get('b'), 'close', () => new Promise(() => {}))
  const { tokens, events } = await played(drawAnswer(deployments))
  expect(tokens).toEqual(undisturbed)
  expect(events.find(({ type }) => type === 'recovery')).toMatchObject({ peerId: 'b' })
})

test('a step that is late, but within its deadline, loses nobody', async () => {
  const mesh = meshOf(['a', 'b', 'c', 'd'])
  const { deployments } = mesh.get('a').source()
  onMeeting(mesh.get('b'), 'frame', () => new Promise(resolve => setTimeout(resolve, 10_000)), 4)
  const { tokens, stream } = await played(drawAnswer(deployments))
  expect([tokens, stream.recoveries]).toEqual([undisturbed, 0])
})

test('an answer is given up when it has lost as many stages as it may', async () => {
  let placed = 0
  const deployments = {
    acquire: async function* () {
      placed++
      return {
        plan: { stages: [] },
        predicted: { ttftMs: 1, tpotMs: 1, stages: [], linksMs: [] },
        answer: {
          cachedTokens: 0,
          prefilled: [],
          measured: { means: { steps: 0, sequences: 0, contextTokens: 0, stages: [], linksMs: [] } },
          next: async () => {
            throw new StageLostError(`stage lost: ${placed}`, `peer-${placed}`)
          },
          close: async () => {}
        },
        planMs: 0,
        roomTokens: 8,
        goesOn: () => undefined,
        firstToken: () => {},
        giveBack: async () => {}
      }
    }
  }
  const stream = new TokenStream(deployments as never, needsOf(), new AbortController().signal)
  const events: string[] = []
  const draw = async () => {
    for await (const { type } of stream.next()) events.push(type)
  }
  await expect(draw()).rejects.toThrow('stage lost: 9')
  expect(events.filter(type => type === 'recovery')).toHaveLength(8)
})

test('an answer that is aborted at any step ends with the reason, and its slot is free again', async () => {
  for (let nth = 1; nth <= 8; nth++) {
    const mesh = meshOf(['a', 'b', 'c'])
    const { deployments } = mesh.get('a').source()
    const abort = new AbortController()
    onMeeting(mesh.get('c'), 'frame', () => abort.abort(new Error('enough')), nth)
    const drawing = drawAnswer(deployments, needsOf(), { signal: abort.signal })
    await expect(played(drawing), `frame ${nth}`).rejects.toThrow('enough')
    await settle()
    expect(deployments.state()[0]!.sessions).toBe(0)
    expect((await played(drawAnswer(deployments))).tokens).toEqual(undisturbed)
    await played(deployments.close())
    expect(mesh.empty).toBe(true)
  }
})

describe('a source that holds the tail, too', () => {
  const sealed = needsOf(undefined, { privacy: 'sealed' })
  const meshWithTail = () => meshOf(['a', 'b', 'c', 'd'], 0.5)

  test('draws the same tokens, and gives back both of its stages', async () => {
    const mesh = meshWithTail()
    const { deployments } = mesh.get('a').source()
    const { tokens, stream } = await played(drawAnswer(deployments, sealed))
    const { stages } = stream.plan
    expect([stages[0]!.peerId, stages.at(-1)!.peerId]).toEqual(['a', 'a'])
    expect(stages.length).toBeGreaterThan(2)
    expect(tokens).toEqual(undisturbed)
    await played(deployments.close())
    expect(mesh.empty).toBe(true)
  })

  test.each(LOSSES.flatMap(([way, lose]) => [1, 3, 8].map(nth => ({ way, lose, nth }))))(
    'goes on where a stage between them $way at frame $nth',
    async ({ lose, nth }) => {
      const mesh = meshWithTail()
      const { deployments } = mesh.get('a').source()
      onMeeting(mesh.get('b'), 'frame', () => lose(mesh, 'b'), nth)
      const { tokens, stream } = await played(drawAnswer(deployments, sealed))
      expect([tokens, stream.recoveries]).toEqual([undisturbed, 1])
      await played(deployments.close())
      expect(mesh.empty).toBe(true)
    }
  )

  test('ends a session whose logits are no numbers, and loses no stage', async () => {
    const mesh = meshWithTail()
    const { deployments } = mesh.get('a').source()
    onMeeting(mesh.get('a'), 'frame', () => void (mesh.get('a').runtime.damaged = true), 3)
    await expect(played(drawAnswer(deployments, sealed))).rejects.toMatchObject({ name: 'NotFiniteError' })
    mesh.get('a').runtime.damaged = false
    expect((await played(drawAnswer(deployments, sealed))).tokens).toEqual(undisturbed)
  })

  test('fails with the tail’s own error where that cannot be computed', async () => {
    const mesh = meshWithTail()
    const { deployments } = mesh.get('a').source()
    onMeeting(mesh.get('a'), 'frame', () => void (mesh.get('a').runtime.failing.step = new Error('a bug')), 3)
    await expect(played(drawAnswer(deployments, sealed))).rejects.toThrow('a bug')
  })
})
