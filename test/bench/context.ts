/**
 * Predicted beside measured times of short and long prompts, on one node: with what attention costs, and without.
 *
 *     npm run bench:context -- [--tokens N]... [--threads N] [--rounds N]
 *
 * `without` is the same prediction from the same profile, but its times by context. The first prompt of each length is
 * predicted from the profile alone; nothing that answers taught is in it, as each length has a node of its own.
 */
import { join } from 'node:path'
import { parseScenario, predict, type ScenarioInput } from '../../node/plan/index.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { answer, Nodes, until } from '../fixtures/nodes.ts'
import { storeRandomModel } from '../fixtures/stored-model.ts'
import { printAttention } from './attention-times.ts'
import { quantile } from './statistics.ts'

const { values } = commandOptions(import.meta.url, {
  options: {
    tokens: { type: 'string', multiple: true, default: ['256', '2048', '8192'] },
    threads: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '1' }
  }
})
/** 8M parameters at 8 bits: so small that attention is most of a long prompt's time. */
const MODEL = 'long'
const SHAPE = { decoderLayers: 8, hiddenSize: 256, ffnSize: 704, heads: 4, kvHeads: 2, contextLength: 16_384 }
const NEW_TOKENS = 48

interface Times {
  ttftMs: number
  tpotMs: number
}

/** The same scenario as devices of before would tell it. */
function withoutContext(scenario: ScenarioInput): ScenarioInput {
  const strip = ({
    decodeMsByContext: _,
    prefillMsPerTokenByContext: __,
    ...times
  }: Record<string, unknown>) => times
  const kinds = (profile: ScenarioInput['profiles'][string]) =>
    Object.fromEntries(Object.entries(profile).map(([kind, times]) => [kind, strip(times)]))
  const profiles = Object.entries(scenario.profiles).map(([id, profile]) => [id, kinds(profile)])
  return { ...scenario, profiles: Object.fromEntries(profiles) }
}

type Played = Record<'measured' | 'predicted' | 'without', Times>

async function play(promptTokens: number): Promise<Played> {
  await using nodes = new Nodes()
  const home = await nodes.home()
  await storeRandomModel(join(home, 'store'), MODEL, SHAPE, { bits: 8, blockSize: 32 })
  const node = await nodes.add({ home, threads: Number(values.threads), bundled: false })
  await until(() => Object.keys(node.mesh().self.profiles).length > 0)
  const { id, manifest } = await node.manifest(MODEL)
  const word = await wordOf(node)
  const text = word.repeat(promptTokens - 1)
  const needs = { model: MODEL, promptTokens, newTokens: NEW_TOKENS }
  const whole = [{ device: node.peerId, layers: [0, manifest.layers.length] as const }]
  const price = (scenario: ScenarioInput) => predict(parseScenario(scenario), whole)!
  const without = price(withoutContext(await node.scenario(needs)))
  // The first token of one that asks for as much context has the weights loaded, and teaches nothing.
  const asked = { model: id, temperature: 1, seed: 3, ignoreEos: true }
  const large = {
    ...asked,
    input: { kind: 'raw' as const, text: word },
    maxTokens: NEW_TOKENS + promptTokens
  }
  for await (const { type } of node.generate(large)) if (type === 'text') break
  const result = await answer(node, { ...asked, input: { kind: 'raw', text }, maxTokens: NEW_TOKENS })
  if (result.promptTokens !== promptTokens) throw new Error(`the prompt has ${result.promptTokens} tokens`)
  return { measured: result, predicted: result.predicted, without }
}

/** A text of which each repetition is one token more. */
async function wordOf(node: { tokenize(text: string, options: { model: string }): Promise<number[]> }) {
  for (const word of [' the', ' a', '.', 'a', '!']) {
    const ids = await node.tokenize(word.repeat(40), { model: MODEL })
    if (ids.length === 41) return word
  }
  throw new Error('no text of the bundled vocabulary is a token each time')
}

const say = (line: string) => process.stdout.write(`${line}\n`)
const error = (predicted: number, measured: number) =>
  `${((100 * (predicted - measured)) / measured).toFixed(0)} %`
say('                   measured   predicted    error     without    error')
for (const tokens of values.tokens.map(Number)) {
  const plays: Played[] = []
  for (let round = 0; round < Number(values.rounds); round++) plays.push(await play(tokens))
  for (const figure of ['ttftMs', 'tpotMs'] as const) {
    const of = (which: 'measured' | 'predicted' | 'without') =>
      quantile(
        plays.map(times => times[which][figure]),
        0.5
      )
    const cells = [
      of('measured').toFixed(2),
      of('predicted').toFixed(2),
      error(of('predicted'), of('measured')),
      of('without').toFixed(2),
      error(of('without'), of('measured'))
    ]
    say(
      `${`${tokens} ${figure}`.padEnd(16)}${cells.map((cell, i) => cell.padStart([11, 12, 9, 12, 9][i]!)).join('')}`
    )
  }
}
// What a token behind a long context takes of attention, alone and with a second row, as exact answers have it.
const settings = [1, 2].map(rows => ({ context: 4096, rows, threads: Number(values.threads), runs: 20 }))
say('')
await printAttention(settings, say)
