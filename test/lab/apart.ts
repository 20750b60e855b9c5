// Two of three devices that are all needed cannot reach each other: `node test/lab/apart.ts`. Prints what answers became of
// it: on links that are whole, when the link breaks, while it is broken, and when it is mended.
import { ask, type Trace } from '../chaos/client.ts'
import { LabMesh } from '../chaos/lab-mesh.ts'
import { whole } from '../chaos/mesh.ts'
import { bundledShare } from '../fixtures/nodes.ts'
import { labProblem } from './permitted.ts'

/** All three are needed. */
const SHARE = 0.42
const LINK = { mbps: 1000, latencyMs: 0.25 }
const BREAK_AFTER_TOKENS = 20
/** Silent connections are given up, and a device that has just come has met the others. */
const KNOWN_AFTER_MS = 25_000
const REQUEST = {
  input: {
    kind: 'chat' as const,
    messages: [{ role: 'user', content: 'Tell me a story about a robot and a lamp.' }]
  },
  maxTokens: 60,
  temperature: 0,
  seed: 5
}

const say = (line: string) => process.stdout.write(`${line}\n`)

function tell(what: string, { events, tokens, end }: Trace): void {
  const plans = events.flatMap(({ event }) => (event.type === 'plan' ? [event.plan.stages] : []))
  const last = plans
    .at(-1)
    ?.map(({ name, layers, via }) => `${name} [${layers.join(', ')})${via ? ' via the source' : ''}`)
  const recoveries = events.flatMap(({ event }) => (event.type === 'recovery' ? [event.reason] : []))
  const ended = end.kind === 'done' ? end.result.finishReason : end.message
  say(`${what}: ${tokens.length} tokens, ${ended}, on ${last?.join(' > ')}; ${recoveries.length} recoveries`)
  for (const reason of recoveries) say(`  ${reason}`)
}

const problem = labProblem()
if (problem !== null) {
  say(`skipped: ${problem}`)
} else {
  const memoryBytes = await bundledShare(SHARE)
  await using mesh = await LabMesh.create({ names: ['f1', 'f2', 'f3'], memoryBytes, holders: 1, link: LINK })
  await whole(mesh)
  const source = mesh.devices[0]!.address
  const undisturbed = await ask(source, REQUEST)
  tell('links whole', undisturbed)
  let parted = false
  const during = await ask(source, REQUEST, {
    watch: ({ tokens }) => {
      if (parted || tokens.length < BREAK_AFTER_TOKENS) return
      parted = true
      void mesh.part('f2', 'f3')
    }
  })
  tell('f2 and f3 cannot reach each other from here on', during)
  const next = await ask(source, REQUEST)
  tell('at once after it', next)
  await new Promise(resolve => setTimeout(resolve, KNOWN_AFTER_MS))
  const later = await ask(source, REQUEST)
  tell(`${KNOWN_AFTER_MS / 1000} s later`, later)
  await mesh.part('f2', 'f3', { again: true })
  await new Promise(resolve => setTimeout(resolve, KNOWN_AFTER_MS))
  const mended = await ask(source, REQUEST)
  tell('they can again', mended)
  const ids = ({ tokens }: Trace) => tokens.map(({ id }) => id).join()
  const equal = [during, next, later, mended].every(trace => ids(trace) === ids(undisturbed))
  say(equal ? 'all answers are equal' : 'DIFFERENT answers')
  process.exitCode = equal ? 0 : 1
}
