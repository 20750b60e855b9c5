import { setTimeout as sleep } from 'node:timers/promises'
import type { GenerateEvent, MeshState } from '../../node/api.ts'
import { ANSWER, RESULT } from '../node/http/fake-node.ts'

const TOKENS = 1500
const TOKEN_MS = 10
/** Tokens of a paragraph. */
const PARAGRAPH = 80
const WORDS = [' the', ' robot', ' and', ' its', ' lamp', ' went', ' home']

/** A long answer of 100 tokens a second: paragraphs of words. */
export async function* evenAnswer(signal: AbortSignal): AsyncGenerator<GenerateEvent> {
  yield* ANSWER.slice(0, 2)
  const startMs = performance.now()
  let said = ''
  for (let id = 0; id < TOKENS; id++) {
    await sleep(Math.max(0, startMs + id * TOKEN_MS - performance.now()), undefined, { signal })
    const text = id % PARAGRAPH === PARAGRAPH - 1 ? '.\n\n' : WORDS[id % WORDS.length]!
    said += text
    yield { type: 'text', text, tokens: [id], logprobs: [] }
  }
  yield { type: 'done', result: { ...RESULT, text: said } }
}

/** A mesh with the devices of such an answer, and a third one. */
export function meshOfThree(mesh: MeshState): MeshState {
  const ids = RESULT.plan.stages.map(({ peerId }) => peerId).slice(1)
  const peers = [...ids, '12D3KooWThird'].map((peerId, i) => ({
    ...mesh.self,
    peerId,
    name: `device ${i}`,
    state: 'connected' as const,
    connected: true,
    suspect: false,
    rttMs: 0.4,
    lastSeenMs: 10
  }))
  const links = peers.flatMap(({ peerId }) => {
    const link = { mbps: 940, rttMs: 0.4, spread: 0.02, ageMs: 0 }
    return [
      { ...link, from: mesh.self.peerId, to: peerId },
      { ...link, from: peerId, to: mesh.self.peerId }
    ]
  })
  return { ...mesh, peers, links }
}
