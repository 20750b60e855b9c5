// Members that lie, against real nodes and with the real deadlines: `npm run attack:members -- [--seconds S] [MODE ...]`. For
// each mode it starts three honest nodes and a member that attracts the layers which the first of them does not hold, and asks
// one question after the other. Prints what became of the answers; ends with 1 where the attack never came to be, or where it
// still does harm at the end: another answer, or the member still asked.

import type { EdgeNode, GenerateResult } from '../../node/api.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { EVILS, type Evil, EvilStage } from '../fixtures/evil-stage.ts'
import { answer, ask, Nodes } from '../fixtures/nodes.ts'

const { values, positionals } = commandOptions(import.meta.url, {
  options: { seconds: { type: 'string', default: '120' } },
  allowPositionals: true
})
const modes = positionals.length === 0 ? EVILS : EVILS.filter(evil => positionals.includes(evil))
const say = (line: string) => process.stdout.write(`${line}\n`)
/** Two answers in a row that are as they should be end a mode. */
const GOOD_IN_A_ROW = 2
const PAUSE_MS = 6000

const devicesOf = ({ plan }: GenerateResult) => plan.stages.map(({ name }) => name)

async function play(evil: Evil): Promise<boolean> {
  await using nodes = new Nodes()
  const onNotice = (text: string) => say(`    ${text.replaceAll(/12D3\w+/g, id => id.slice(-6))}`)
  const mesh = await nodes.mesh(['source', 'helper', 'other'], 0.5, { verify: 1, onNotice })
  const [source] = mesh as [EdgeNode]
  const request = ask('What is a pump?', {
    maxTokens: 30,
    ignoreEos: true,
    privacy: evil === 'noise' ? 'sealed' : 'prompt'
  })
  const honest = await answer(source, request)
  await using stage = await EvilStage.join(evil, mesh, { lateMs: evil === 'late' ? 400 : 0 })
  const endMs = performance.now() + 1000 * Number(values.seconds)
  let good = 0
  let other = 0
  let failed = 0
  let longestMs = 0
  while (performance.now() < endMs && good < GOOD_IN_A_ROW) {
    const startMs = performance.now()
    const result = await answer(source, request).catch((error: Error) => error)
    const tookMs = performance.now() - startMs
    longestMs = Math.max(longestMs, tookMs)
    if (result instanceof Error) {
      say(`  failed after ${(tookMs / 1000).toFixed(1)} s: ${result.message}`)
      failed++
      continue
    }
    const same = result.text === honest.text
    if (!same) other++
    const unharmed = same && !devicesOf(result).includes(stage.name)
    good = unharmed && stage.seen.reserves > 0 ? good + 1 : 0
    const how = `${same ? 'the same' : 'another'} text, ${result.recoveries} recoveries, ${(tookMs / 1000).toFixed(1)} s`
    say(`  ${devicesOf(result).join(' -> ')}: ${how}`)
    // Links are measured meanwhile, and answers checked.
    if (good < GOOD_IN_A_ROW) await new Promise(resolve => setTimeout(resolve, PAUSE_MS))
  }
  const { reserves, loads, opens, frames, answered } = stage.seen
  say(
    `  asked of it: ${reserves} leases, ${loads} loads, ${opens} sessions, ${frames} frames of which it answered ${answered}`
  )
  say(`  ${other} other answers, ${failed} failed; the longest took ${(longestMs / 1000).toFixed(1)} s`)
  return good === GOOD_IN_A_ROW
}

for (const evil of modes) {
  say(evil)
  const held = await play(evil)
  say(`  ${held ? 'held: it is left' : 'NOT HELD'}`)
  if (!held) process.exitCode = 1
}
