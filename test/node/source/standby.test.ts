import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Move } from '../../../node/api.ts'
import type { Deployments } from '../../../node/source/placement/deployments.ts'
import { prng } from '../../fixtures/prng.ts'
import { pass, played, sleep, stopClock } from '../simulation/clock.ts'
import { SimulatedMesh, shareOf } from '../simulation/mesh.ts'
import { onMeeting } from '../simulation/peers.ts'
import { at, closed, drawn as drawnOn, movesIn, roomyMesh, undisturbed } from './moving-answer.ts'
import { MODEL, needsOf } from './simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const LONG = needsOf(MODEL, { newTokens: 150, standby: true })
const drawn: typeof drawnOn = (mesh, onToken, needs = LONG, options) => drawnOn(mesh, onToken, needs, options)

const told = ({ reason, to }: Move) => [reason, ...to.map(({ peerId }) => peerId)]

const standbyOf = (deployments: Deployments) =>
  deployments.state().flatMap(({ standby }) => standby?.stages.map(({ peerId }) => peerId) ?? [])

describe('where others stand by', () => {
  test('the loss of a stage costs a token’s time', async () => {
    const mesh = roomyMesh({ b: 5, c: 6 })
    const { tokens, events, stream, deployments, gapsMs } = await played(
      drawn(
        mesh,
        at(60, () => mesh.vanish('b'))
      )
    )
    expect(tokens).toEqual(await undisturbed(LONG))
    expect(stream.recoveries).toBe(0)
    expect(movesIn(events).map(told)).toEqual([['lost', 'a', 'c']])
    expect(stream.moves[0]!.tokens).toBe(60)
    // By the clock of the simulation, which is the same each time.
    expect(Math.max(...gapsMs)).toBeLessThanOrEqual(2 * gapsMs[0]!)
    // What has stood by is stood by for: by the device itself, which has the room.
    expect(stream.standby!.map(({ peerId }) => peerId)).toEqual(['a'])
    await closed(mesh, deployments)
  })

  test('nobody does for an answer that has not asked for it', async () => {
    const mesh = roomyMesh({ b: 5, c: 6 })
    const { stream, deployments } = await played(
      drawn(
        mesh,
        at(60, () => mesh.vanish('b')),
        { ...LONG, standby: false }
      )
    )
    expect([stream.recoveries, stream.moves, stream.standby]).toEqual([1, [], undefined])
    await closed(mesh, deployments)
  })

  test('they are leased and said, and stay for the next answer', async () => {
    const mesh = roomyMesh({ b: 5, c: 6 })
    const first = await played(drawn(mesh))
    expect(standbyOf(first.deployments)).toEqual(['a', 'c'])
    expect(mesh.get('c').record.leases).toHaveLength(1)
    const { loads } = mesh.get('c').runtime
    const second = await played(
      drawn(
        mesh,
        at(20, () => mesh.vanish('b')),
        LONG,
        { deployments: first.deployments }
      )
    )
    expect(second.tokens).toEqual(first.tokens)
    expect([second.stream.recoveries, ...second.stream.moves.map(told)]).toEqual([0, ['lost', 'a', 'c']])
    expect(loads).toHaveLength(1)
    await closed(mesh, first.deployments)
  })

  test('they give their memory here to whoever cannot do without it', async () => {
    const mesh = roomyMesh({ b: 5, c: 6 })
    const { deployments } = await played(drawn(mesh))
    const { room, runtime } = mesh.get('a')
    expect([standbyOf(deployments), runtime.batches]).toEqual([['a', 'c'], 2])
    // What runs is another answer's, which nobody stands by for.
    const needs = { ...LONG, standby: false }
    const reserved = at(20, () => {
      const weightBytes = room.leases.freeBytes
      room.leases.reserve([{ source: 'x', modelId: 'other', range: [0, 1], weightBytes, ownBytes: 0 }])
    })
    await played(drawn(mesh, reserved, needs, { deployments }))
    expect([standbyOf(deployments), runtime.batches]).toEqual([[], 1])
    expect(mesh.get('c').empty).toBe(true)
    await played(deployments.close())
  })

  test('nothing of them is left when the source has closed', async () => {
    const mesh = roomyMesh({ b: 5, c: 6 })
    const { deployments } = await played(drawn(mesh))
    mesh.get('c').peers.meet = what => (what === 'release' ? sleep(200) : undefined)
    await played(deployments.close())
    expect(mesh.empty).toBe(true)
  })

  test('an answer that begins as another one ends is followed when that one’s slot is free there, too', async () => {
    const mesh = roomyMesh({ b: 5, c: 6 })
    const { deployments } = mesh.get('a').source()
    const needs = Array.from({ length: 5 }, (_, i) => {
      const prompt = Array.from({ length: 40 + i }, (_, j) => 7 + i + j)
      return needsOf(MODEL, { prompt, newTokens: i === 0 ? 80 : 240, standby: true })
    })
    // Where they stand by a session ends later than where the answers run.
    mesh.get('c').peers.meet = what => (what === 'close' ? sleep(50) : undefined)
    const answers = await played(Promise.all(needs.map(each => drawn(mesh, () => {}, each, { deployments }))))
    expect(answers.map(({ tokens }) => tokens.length)).toEqual([80, 240, 240, 240, 240])
    expect(mesh.get('c').runtime.loads).toHaveLength(1)
    expect(standbyOf(deployments)).toEqual(['a', 'c'])
    mesh.get('c').peers.meet = () => {}
    await closed(mesh, deployments)
  })

  test('the loss of what stands by costs nothing, and another one does then', async () => {
    const mesh = roomyMesh({ b: 5, c: 6, d: 7 })
    const needs = { ...LONG, newTokens: 300 }
    const { tokens, stream, deployments, gapsMs } = await played(
      drawn(
        mesh,
        tokens => {
          if (tokens.length === 30) mesh.vanish('c')
          if (tokens.length === 250) mesh.vanish('b')
        },
        needs
      )
    )
    expect(tokens).toEqual(await undisturbed(needs))
    expect([stream.recoveries, ...stream.moves.map(told)]).toEqual([0, ['lost', 'a', 'd']])
    expect(Math.max(...gapsMs.slice(0, 200))).toBeLessThanOrEqual(2 * gapsMs[0]!)
    await closed(mesh, deployments)
  })

  test('one loss after the other: what has stood by is stood by for', async () => {
    const mesh = roomyMesh({ b: 5, c: 6, d: 7 })
    const needs = { ...LONG, newTokens: 300 }
    const { tokens, stream, deployments } = await played(
      drawn(
        mesh,
        tokens => {
          if (tokens.length === 30) mesh.vanish('b')
          if (tokens.length === 250) mesh.vanish('c')
        },
        needs
      )
    )
    expect(tokens).toEqual(await undisturbed(needs))
    expect([stream.recoveries, ...stream.moves.map(told)]).toEqual([
      0,
      ['lost', 'a', 'c'],
      ['lost', 'a', 'd']
    ])
    await closed(mesh, deployments)
  })

  test.each([
    ['b', 'c'],
    ['c', 'b']
  ])('the loss of both, %s first, is a loss as any other', async (...lost) => {
    const mesh = roomyMesh({ b: 5, c: 6, d: 7 })
    const { tokens, stream, deployments } = await played(
      drawn(
        mesh,
        at(60, () => {
          for (const id of lost) mesh.vanish(id)
        })
      )
    )
    expect(tokens).toEqual(await undisturbed(LONG))
    expect(stream.recoveries).toBeGreaterThan(0)
    expect(stream.plan.stages.map(({ peerId }) => peerId)).toContain('d')
    await closed(mesh, deployments)
  })

  test.each(['reserve', 'load', 'open'] as const)('a loss while they are asked to %s', async what => {
    const mesh = roomyMesh({ b: 5, c: 6 })
    onMeeting(mesh.get('c'), what, () => mesh.vanish('b'))
    const { tokens, stream, deployments } = await played(drawn(mesh))
    expect(tokens).toEqual(await undisturbed(LONG))
    expect(stream.recoveries + stream.moves.length).toBe(1)
    await closed(mesh, deployments)
  })

  test.each([1, 3, 30])('a loss while they catch up, with their frame %i', async nth => {
    const mesh = roomyMesh({ b: 5, c: 6 })
    // Long enough that it takes them some steps.
    const needs = { ...LONG, prompt: Array.from({ length: 400 }, (_, i) => i % 90), promptTokens: 400 }
    onMeeting(mesh.get('c'), 'frame', () => mesh.vanish('b'), nth)
    const { tokens, stream, deployments } = await played(drawn(mesh, () => {}, needs))
    expect(tokens).toEqual(await undisturbed(needs))
    expect([stream.recoveries, ...stream.moves.map(told)]).toEqual([0, ['lost', 'a', 'c']])
    await closed(mesh, deployments)
  })

  test.each([1, 10])('the loss of those that have gone on, with their frame %i from then on', async nth => {
    const mesh = roomyMesh({ b: 5, c: 6, d: 7 })
    const { tokens, deployments } = await played(
      drawn(
        mesh,
        at(60, () => {
          mesh.vanish('b')
          onMeeting(mesh.get('c'), 'frame', () => mesh.vanish('c'), nth)
        })
      )
    )
    expect(tokens).toEqual(await undisturbed(LONG))
    await closed(mesh, deployments)
  })

  test('a device that falls silent is one that is lost', async () => {
    const mesh = roomyMesh({ b: 5, c: 6 })
    const { tokens, stream, deployments } = await played(
      drawn(
        mesh,
        at(60, () => void mesh.silence('b'))
      )
    )
    expect(tokens).toEqual(await undisturbed(LONG))
    expect([stream.recoveries, ...stream.moves.map(told)]).toEqual([0, ['lost', 'a', 'c']])
    await closed(mesh, deployments)
  })

  test('a device that is drained is left for them', async () => {
    const mesh = roomyMesh({ b: 5, c: 6 })
    const { tokens, stream, deployments, gapsMs } = await played(
      drawn(
        mesh,
        at(60, () => mesh.drain('b'))
      )
    )
    expect(tokens).toEqual(await undisturbed(LONG))
    expect([stream.recoveries, ...stream.moves.map(told)]).toEqual([0, ['drained', 'a', 'c']])
    expect(Math.max(...gapsMs)).toBeLessThanOrEqual(2 * gapsMs[0]!)
    await closed(mesh, deployments)
  })

  test('a device that only stands by is left when it is drained, and another one does', async () => {
    const mesh = roomyMesh({ b: 5, c: 6, d: 7 })
    const needs = { ...LONG, newTokens: 250 }
    let emptyAt = 0
    const { tokens, stream, deployments } = await played(
      drawn(
        mesh,
        tokens => {
          if (tokens.length === 30) mesh.drain('c')
          if (tokens.length > 30 && emptyAt === 0 && mesh.get('c').empty) emptyAt = tokens.length
        },
        needs
      )
    )
    expect(tokens).toEqual(await undisturbed(needs))
    expect([stream.recoveries, stream.moves]).toEqual([0, []])
    expect(emptyAt).toBeGreaterThan(0)
    expect(standbyOf(deployments)).toEqual(['a', 'd'])
    await closed(mesh, deployments)
  })

  test('what is better than both is moved to', async () => {
    const mesh = roomyMesh({ b: 30, c: 31 })
    const needs = { ...LONG, newTokens: 250 }
    const { tokens, stream, deployments } = await played(
      drawn(
        mesh,
        at(40, () => mesh.add('d', { memoryBytes: shareOf(MODEL, 4, 4, 1024), decodeMs: 1, stepMs: 2 })),
        needs
      )
    )
    expect(tokens).toEqual(await undisturbed(needs))
    expect([stream.recoveries, stream.moves[0]?.reason]).toEqual([0, 'faster'])
    expect(stream.moves[0]!.to.map(({ peerId }) => peerId)).toContain('d')
    await closed(mesh, deployments)
  })

  test('of several answers those go over that asked for it, and the others come back for a place', async () => {
    const mesh = roomyMesh({ b: 5, c: 6 })
    const { deployments } = mesh.get('a').source()
    const needs = [true, false, true].map((standby, i) => {
      const prompt = Array.from({ length: 40 + i }, (_, j) => 7 + i + j)
      return needsOf(MODEL, { prompt, newTokens: 200, standby })
    })
    const expected = []
    for (const each of needs) expected.push(await undisturbed(each))
    const losing = at(100, () => mesh.vanish('b'))
    const answers = await played(Promise.all(needs.map(each => drawn(mesh, losing, each, { deployments }))))
    expect(answers.map(({ tokens }) => tokens)).toEqual(expected)
    expect(answers.map(({ stream }) => [stream.recoveries, stream.moves.length])).toEqual([
      [0, 1],
      [1, 0],
      [0, 1]
    ])
    await closed(mesh, deployments)
  })

  test('where there is no room for all of it a second time they stand by for one stage', async () => {
    const mesh = new SimulatedMesh(MODEL)
    for (const id of ['a', 'b', 'c']) {
      // A third of the model, and the KV caches of that once more.
      mesh.add(id, { memoryBytes: shareOf(MODEL, 0.462), models: id === 'a' ? [MODEL] : [] })
    }
    mesh.add('d', { memoryBytes: shareOf(MODEL, 0.37), decodeMs: 1.5 })
    const { deployments } = mesh.get('a').source()
    let lost: string | undefined
    const { tokens, stream } = await played(
      drawn(
        mesh,
        at(60, () => {
          const [{ plan, standby }] = deployments.state() as [ReturnType<Deployments['state']>[number]]
          const others = standby!.stages.map(({ peerId }) => peerId)
          // Two devices have a part in both.
          expect(plan.stages.filter(({ peerId }) => others.includes(peerId)).length).toBeGreaterThan(1)
          lost = plan.stages.find(({ peerId }) => !others.includes(peerId))?.peerId
          mesh.vanish(lost!)
        }),
        LONG,
        { deployments }
      )
    )
    expect(tokens).toEqual(await undisturbed(LONG))
    expect([stream.recoveries, stream.moves.map(({ reason }) => reason)]).toEqual([0, ['lost']])
    await closed(mesh, deployments)
  })

  test('at any moments, in any order: the tokens are the same, and nothing is left', async () => {
    const twin = await undisturbed(LONG)
    for (let seed = 1; seed <= 4; seed++) {
      const random = prng(seed)
      const mesh = roomyMesh({ b: 5, c: 6, d: 7, e: 8 })
      const { deployments } = mesh.get('a').source()
      const lost = ['b', 'c', 'd', 'e'].filter(() => random() < 0.6)
      const acts = lost.map(id => ({
        at: 1 + Math.floor(140 * random()),
        act: () => (random() < 0.3 ? mesh.drain(id) : mesh.vanish(id))
      }))
      const { tokens } = await played(
        drawn(
          mesh,
          ({ length }) => {
            for (const { at, act } of acts) if (at === length) act()
          },
          LONG,
          { deployments }
        )
      )
      expect([seed, tokens]).toEqual([seed, twin])
      await played(deployments.close())
      await pass(1000)
      expect([seed, mesh.empty]).toEqual([seed, true])
    }
  })
})
