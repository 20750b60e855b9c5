import { expect, test } from 'vitest'
import type { PlannedStage } from '../../../../node/api.ts'
import { StageLostError } from '../../../../node/errors.ts'
import { TokenStream } from '../../../../node/source/request/token-stream.ts'
import { needsOf } from '../simulated-answer.ts'

const stage = (peerId: string, bitsClass?: string): PlannedStage => ({
  peerId,
  name: peerId,
  layers: [0, 5],
  weightBytes: 1,
  ...(bitsClass !== undefined && { bitsClass })
})

/** An answer that draws a token on the first place, loses it, and goes on at the second. */
async function movedBetween(...places: PlannedStage[]): Promise<TokenStream> {
  let placed = 0
  const deployments = {
    acquire: async function* () {
      const at = places[placed++]!
      let drawn = 0
      return {
        plan: { stages: [at] },
        predicted: { ttftMs: 1, tpotMs: 1, stages: [], linksMs: [] },
        answer: {
          cachedTokens: 0,
          prefilled: [],
          measured: { means: { steps: 0, sequences: 0, contextTokens: 0, stages: [], linksMs: [] } },
          next: async () => {
            if (placed === 1 && drawn++ === 1) throw new StageLostError('stage lost', at.peerId)
            return { id: 7, logprob: 0, top: [] }
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
  for (let i = 0; i < 2; i++) for await (const _ of stream.next());
  expect(stream.recoveries).toBe(1)
  return stream
}

test('an answer that goes on at another class of bits says so', async () => {
  expect((await movedBetween(stage('a', 'gpu'), stage('a'))).otherClass).toBe(true)
  expect((await movedBetween(stage('a'), stage('b', 'gpu'))).otherClass).toBe(true)
})

test('one that goes on within its class says nothing', async () => {
  expect((await movedBetween(stage('a'), stage('b'))).otherClass).toBe(false)
  expect((await movedBetween(stage('a', 'gpu'), stage('b', 'gpu'))).otherClass).toBe(false)
})
