/**
 * One layer of experts, shaped as Qwen3-30B-A3B's (128 of 768, 8 used, hidden 2,048), beside a dense layer that reads as many
 * bytes a token: a step of one token, of several sequences, a chunk of a prompt, the time to load and what loading takes.
 *
 *     npm run bench:experts -- [--threads N] [--bits 4|8] [--block N] [--layers N] [--rounds N]
 *
 * Times are of this thread, in milliseconds; `over dense` is the ratio to the dense layer of the same run, best of rounds. With
 * several layers it shows that loading takes as long for each. `held` is what a lease counts for the weights.
 */

import Table from 'cli-table3'
import { commandOptions } from '../fixtures/command-options.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { ExpertLayers, STEPS } from './expert-layer.ts'

const { values } = commandOptions(import.meta.url, {
  options: {
    threads: { type: 'string', default: '1' },
    bits: { type: 'string', default: '4' },
    block: { type: 'string', default: '128' },
    layers: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '3' }
  }
})
const quantization = { bits: values.bits === '8' ? 8 : 4, blockSize: Number(values.block) } as const

await using folder = await temporaryFolder()
const layers = new ExpertLayers({ quantization, folder: folder.path, threads: Number(values.threads) })
// First, while nothing that was given back is taken again.
const { secondsPerLayer, loadedBytes, heldBytes } = await layers.load(Number(values.layers))
process.stdout.write(
  `${values.layers} x experts: loaded in ${secondsPerLayer.toFixed(2)} s each, ` +
    `${(loadedBytes / 1e6).toFixed(0)} MB of memory, ${(loadedBytes / heldBytes).toFixed(2)} of the ${(heldBytes / 1e6).toFixed(0)} MB held\n`
)
const best = await layers.times(Number(values.rounds))
const table = new Table({ head: ['', 'experts', 'dense', 'over dense'], style: { head: [], border: [] } })
STEPS.forEach((step, i) => {
  const [experts, dense] = [best.experts[i]!, best.dense[i]!]
  table.push([step, experts.toFixed(2), dense.toFixed(2), (experts / dense).toFixed(2)])
})
process.stdout.write(`${table.toString()}\n`)
