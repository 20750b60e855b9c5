/**
 * The GPU of a machine beside its CPU, on layers of 1.1B parameters at 4 bits in blocks of 128 with random weights: times,
 * tokens a second that they come to, what they differ by, the self-check of rows, and what memory it gives. Needs no
 * network; takes a few minutes at most: `npm run bench:gpu -- --threads 4 --memory 8`.
 */
import { availableParallelism, cpus } from 'node:os'
import { PREFILL_CHUNK_TOKENS } from '../../models/runtime/hidden.ts'
import { providersTable } from '../../node/cli/commands/profile.ts'
import { gpuPresence } from '../../node/processor/gpu-presence.ts'
import { probeGpu } from '../../node/processor/probe.ts'
import { judge } from '../../node/processor/verdict.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { SHAPE } from './runtime-models.ts'

const { values } = commandOptions(import.meta.url, {
  options: {
    threads: { type: 'string', default: `${availableParallelism()}` },
    /** GiB that are asked for at most. */
    memory: { type: 'string', default: '8' }
  }
})
const presence = await gpuPresence()
if (!presence.possible) {
  process.stdout.write(`no GPU can be used here: ${presence.reason}\n`)
  process.exit(1)
}
const findings = await probeGpu({
  shape: SHAPE,
  quantization: { bits: 4, blockSize: 128 },
  threads: Number(values.threads),
  withinMs: 600_000,
  silenceMs: 120_000,
  mostBytes: Number(values.memory) * 2 ** 30
})
const verdict = judge(findings, SHAPE.decoderLayers)
const probe = { key: '', measuredAtMs: Date.now(), model: 'the 1.1B shape', ...findings, verdict }
process.stdout.write(
  `${cpus()[0]?.model}, ${values.threads} threads\n${providersTable(presence.driver, probe)}`
)
const sum = (work: string, of: (time: (typeof findings.times)[number]) => number) =>
  findings.times
    .filter(time => time.work === work)
    .reduce((total, time) => total + (time.kind === 'decoder' ? SHAPE.decoderLayers : 1) * of(time), 0)
for (const name of ['cpuMs', 'gpuMs'] as const) {
  const [decodeMs, prefillMs] = [sum('decode', time => time[name]), sum('prefill', time => time[name])]
  const prompts =
    prefillMs > 0 ? `, ${((1000 * PREFILL_CHUNK_TOKENS) / prefillMs).toPrecision(3)} of a prompt` : ''
  process.stdout.write(
    `${name.slice(0, 3).toUpperCase()}: ${(1000 / decodeMs).toPrecision(3)} tokens a second${prompts}\n`
  )
}
