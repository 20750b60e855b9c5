/**
 * Time to the first token of an agent's second request behind many equal tokens, over that of its first one, on one node
 * and on three (all of them in this process, on loopback).
 *
 *     npm run bench:prefix -- [--tokens N]... [--threads N] [--rounds N] [--prefix-cache MIB]
 *
 * A model of random weights that has the context: the bundled one's is too short. In a round each way has a conversation of
 * its own, whose first prompt is fresh; the second goes on from its KV cache, wherever the two part. In the last way somebody else's
 * prompt of as many tokens takes the slot between the two, so the second goes on from what every device has kept of it beside (--prefix-cache).
 */
import { join } from 'node:path'
import { leaseBytes } from '../../models/runtime/memory.ts'
import type { EdgeNode, GenerateResult } from '../../node/api.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { answer, Nodes, until } from '../fixtures/nodes.ts'
import { storeRandomModel } from '../fixtures/stored-model.ts'
import { quantile } from './statistics.ts'

const { values } = commandOptions(import.meta.url, {
  options: {
    tokens: { type: 'string', multiple: true, default: ['2000', '8000'] },
    threads: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '3' },
    'prefix-cache': { type: 'string', default: '512' }
  }
})
const MODEL = 'long'
/** 8M parameters at 8 bits. */
const SHAPE = { decoderLayers: 8, hiddenSize: 256, ffnSize: 704, heads: 4, kvHeads: 2, contextLength: 16_384 }
const NEW_TOKENS = 8
/** Tokens of a question behind what is equal. */
const QUESTION_TOKENS = 48

const questionOf = (seed: number) =>
  Array.from({ length: QUESTION_TOKENS }, (_, i) => 20 + ((i * i + 31 * seed) % 200))

/** Behind another client's prompt, which has taken the only slot. */
const EVICTED = 'another question, evicted'
/** The second prompt, of the first one's equal tokens and its answer. */
const WAYS: Record<string, (common: number[], answer: readonly number[]) => number[]> = {
  'the same again': common => [...common, ...questionOf(1)],
  'another question': common => [...common, ...questionOf(2)],
  'a next turn': (common, answer) => [...common, ...questionOf(1), ...answer, ...questionOf(3)],
  [EVICTED]: common => [...common, ...questionOf(2)]
}

interface Pair {
  first: GenerateResult
  second: GenerateResult
}

/** Devices of which a model takes so many; only the first has it. */
async function meshOf(nodes: Nodes, devices: number, contextTokens: number): Promise<EdgeNode> {
  const home = await nodes.home()
  const { layers, ...manifest } = await storeRandomModel(join(home, 'store'), MODEL, SHAPE, {
    bits: 8,
    blockSize: 32
  })
  const whole: [number, number] = [0, layers.length]
  const room = { slots: 1, maxTokens: contextTokens }
  const { weightBytes, ownBytes } = leaseBytes({ ...manifest, layers }, whole, room)
  const prefixCacheBytes = Number(values['prefix-cache']) * 2 ** 20
  const share = devices === 1 ? 2 : 1.3 / devices
  const init = {
    bundled: false,
    threads: Number(values.threads),
    memoryBytes: Math.ceil(share * (weightBytes + ownBytes)) + prefixCacheBytes,
    prefixCacheBytes
  }
  const all = [await nodes.add({ ...init, home })]
  while (all.length < devices) {
    all.push(await nodes.add({ ...init, peers: all.flatMap(({ addresses }) => addresses.slice(0, 1)) }))
  }
  await until(() =>
    all.every(node => node.mesh().peers.filter(({ connected }) => connected).length === devices - 1)
  )
  await until(() => Object.keys(all[0]!.mesh().self.profiles).length > 0)
  return all[0]!
}

async function playedOn(devices: number, tokens: number): Promise<Map<string, Pair[]>> {
  await using nodes = new Nodes()
  const longest = tokens + 2 * QUESTION_TOKENS + 2 * NEW_TOKENS
  const node = await meshOf(nodes, devices, longest)
  const ask = async (prompt: number[], conversation: string, maxTokens = NEW_TOKENS) => {
    const sampling = { temperature: 1, seed: 3, ignoreEos: true }
    return await answer(node, {
      ...sampling,
      model: MODEL,
      conversation,
      maxTokens,
      input: { kind: 'ids', ids: prompt }
    })
  }
  const played = new Map<string, Pair[]>()
  for (let round = -1; round < Number(values.rounds); round++) {
    for (const [way, secondOf] of Object.entries(WAYS)) {
      const conversation = `${way} ${round}`
      const common = Array.from({ length: tokens }, (_, i) => 20 + ((i * 7919) % 200))
      // As many are drawn as the longest prompt has room for, so that all are placed alike.
      const first = await ask([...common, ...questionOf(1)], conversation, longest - tokens - QUESTION_TOKENS)
      if (way === EVICTED) await ask([...common].reverse(), `other ${round}`)
      const second = await ask(secondOf(common, first.tokens.slice(0, NEW_TOKENS)), conversation)
      const stages = second.plan.stages.length
      if (stages !== devices) throw new Error(`the model is on ${stages} devices instead of ${devices}`)
      if (first.cachedTokens > 0) throw new Error('a first prompt was not fresh')
      // The first round loads the model.
      if (round >= 0) played.set(way, [...(played.get(way) ?? []), { first, second }])
    }
  }
  return played
}

const say = (line: string) => process.stdout.write(`${line}\n`)
say('devices  tokens  second request                first ms   second ms   ratio   of cache')
for (const devices of [1, 3]) {
  for (const tokens of values.tokens.map(Number)) {
    for (const [way, pairs] of await playedOn(devices, tokens)) {
      const median = (of: (pair: Pair) => number) => quantile(pairs.map(of), 0.5)
      const firstMs = median(({ first }) => first.ttftMs)
      const secondMs = median(({ second }) => second.ttftMs)
      const ratio = median(({ first, second }) => second.ttftMs / first.ttftMs)
      const { cachedTokens, promptTokens } = pairs[0]!.second
      const cells = [firstMs.toFixed(0), secondMs.toFixed(1), ratio.toFixed(4)]
      say(
        `${String(devices).padStart(7)} ${String(tokens).padStart(7)}  ${way.padEnd(27)}${cells.map((cell, i) => cell.padStart([11, 12, 8][i]!)).join('')}   ${cachedTokens} of ${promptTokens}`
      )
    }
  }
}
