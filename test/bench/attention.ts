/**
 * Attention of one layer behind a context: each query head by itself, and the heads of a group as rows of one, in turns.
 *
 *     npm run bench:attention -- [--context N]... [--rows N]... [--threads N] [--runs N]
 */
import { commandOptions } from '../fixtures/command-options.ts'
import { printAttention } from './attention-times.ts'

const { values } = commandOptions(import.meta.url, {
  options: {
    context: { type: 'string', multiple: true, default: ['256', '1024', '4096', '16384'] },
    rows: { type: 'string', multiple: true, default: ['1', '2', '4', '8'] },
    threads: { type: 'string', default: '1' },
    runs: { type: 'string', default: '20' }
  }
})
const [threads, runs] = [Number(values.threads), Number(values.runs)]
const settings = values.context.flatMap(context =>
  values.rows.map(rows => ({ context: Number(context), rows: Number(rows), threads, runs }))
)
await printAttention(settings, line => process.stdout.write(`${line}\n`))
