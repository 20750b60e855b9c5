/**
 * One prompt over several devices: guesses ahead against none, prompts that join, and recovery, each as a ratio of what is
 * measured in turn in one run.
 *
 *     npm run bench:speculation -- [--only ROWS] [--tokens N] [--rounds N] [--layers N] [--cpus SHARE] [--compute MS] [--json]
 *
 * Each stage is a process with one compute thread that a control group holds to the same share of a processor (0.6, in
 * periods of 10 ms), as is the one device that computes all layers (`stage-line.ts`). Random weights in the shape of
 * TinyLlama 1.1B, 4 bits in blocks of 128, and an oracle for a draft, right as often as it is told to be; then the bundled model
 * with its own draft, which runs beside the stages. `--only` takes some of `settings`, `bundled`, `batch`, `recovery` and
 * `joining`. `--compute MS` computes nothing: a stage waits so long for a step, and one device as long as all of them. What it
 * prints is the protocol's, and marked so; it can be had on a machine that has other things to do, for `settings` and `batch`.
 */
import { commandOptions } from '../fixtures/command-options.ts'
import { bundledRow } from './one-prompt/bundled.ts'
import { joiningRow } from './one-prompt/joining.ts'
import { recoveryRow } from './one-prompt/recovery.ts'
import type { Row } from './one-prompt/row.ts'
import { batchRow, settingRows } from './one-prompt/settings.ts'
import { OWN, randomModel } from './runtime-models.ts'
import { quotaWords } from './stage-line.ts'

const ROWS = ['settings', 'bundled', 'batch', 'recovery', 'joining']
const { values } = commandOptions(import.meta.url, {
  options: {
    only: { type: 'string', default: ROWS.join(',') },
    tokens: { type: 'string', default: '72' },
    rounds: { type: 'string', default: '3' },
    layers: { type: 'string', default: '22' },
    cpus: { type: 'string', default: '0.6' },
    compute: { type: 'string' },
    json: { type: 'boolean', default: false }
  }
})
const [newTokens, rounds, layers, cpus] = [values.tokens, values.rounds, values.layers, values.cpus].map(
  Number
) as [number, number, number, number]
const waitMs = values.compute === undefined ? undefined : 3 * Number(values.compute)
const wanted = values.only.split(',')
const unknown = wanted.find(row => !ROWS.includes(row))
if (unknown !== undefined) throw new Error(`there is no ${unknown}: ${ROWS.join(', ')}`)

const how = { newTokens, rounds, cpus, computeMs: waitMs }
await using model = await randomModel(
  'random',
  OWN,
  { decoderLayers: layers },
  waitMs === undefined ? undefined : [0, 0]
)
const rows: Row[] = []
const say = (line: string) => process.stdout.write(`${line}\n`)

function sayRow(row: Row): void {
  rows.push(row)
  if (values.json) return
  if (rows.length === 1) {
    say(`${layers} decoder layers, ${newTokens} tokens, ${rounds} rounds; ${words(row)}`)
    say('setting | against, ms | ms | ratio | aim | and')
  }
  const { setting, againstMs, ms, aim, and } = row
  const ratio = (ms / againstMs).toFixed(2)
  say(`${setting} | ${againstMs.toFixed(1)} | ${ms.toFixed(1)} | ${ratio} | ${aim.toFixed(2)} | ${and}`)
}

function words({ held }: Row): string {
  if (held === undefined) return 'no quota'
  return waitMs === undefined
    ? quotaWords(held, cpus)
    : `simulated: a stage waits ${values.compute} ms for a step (a third of the model) and computes nothing`
}

if (wanted.includes('settings')) for await (const row of settingRows(model, how)) sayRow(row)
if (wanted.includes('batch')) sayRow(await batchRow(model, how))
if (waitMs === undefined) {
  if (wanted.includes('bundled')) sayRow(await bundledRow(how))
  if (wanted.includes('recovery')) sayRow(await recoveryRow(model, how))
  if (wanted.includes('joining')) sayRow(await joiningRow({ decoderLayers: layers }, how))
}
if (values.json) say(JSON.stringify({ quota: rows[0] && words(rows[0]), newTokens, rows }, null, 1))
