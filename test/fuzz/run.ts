// Fuzz: `npm run fuzz -- --messages N --seed S`. Mutated messages on all protocols of a real node; fails where the node
// ends, grows, or lets an honest peer's answer come out otherwise.
import { commandOptions } from '../fixtures/command-options.ts'
import { fuzz } from './fuzz.ts'

const MAX_GROWTH_BYTES = 50 * 2 ** 20

const { values } = commandOptions(import.meta.url, {
  options: {
    messages: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: '1' }
  }
})
const [messages, seed] = [Number(values.messages), Number(values.seed)]
const started = performance.now()
const report = await fuzz({
  messages,
  seed,
  onProgress: sent => process.stderr.write(`\r${sent} of ${messages} messages`)
})
const { sent, streams, answers, growthBytes, leases } = report
const total = Object.values(sent).reduce((sum, count) => sum + count, 0)
const list = (counts: object) =>
  Object.entries(counts)
    .map(([what, count]) => `${what} ${count}`)
    .join(', ')
process.stdout.write(
  `\n${total} messages in ${Math.round((performance.now() - started) / 1000)} s: ${list(sent)}\n` +
    `streams: ${list(streams)}\n` +
    `answers of an honest peer through the node meanwhile: ${answers.total}, ${answers.different} with other tokens\n` +
    `the node grew by ${(growthBytes / 2 ** 20).toFixed(1)} MiB and keeps ${leases} leases of those that left\n`
)
const well = answers.total > 0 && answers.different === 0 && growthBytes <= MAX_GROWTH_BYTES && leases === 0
process.exitCode = well ? 0 : 1
