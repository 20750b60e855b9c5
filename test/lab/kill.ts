// An answer over three hosts during which one stage's process is killed: `node test/lab/kill.ts`. Prints what happened
// when, how long each part of the recovery took, and whether the tokens are those of an undisturbed answer.

import { ask, type Trace } from '../chaos/client.ts'
import { LabMesh } from '../chaos/lab-mesh.ts'
import { whole } from '../chaos/mesh.ts'
import { recoveryTimes } from '../chaos/recovery-times.ts'
import { ms } from '../chaos/series.ts'
import { compare } from '../chaos/twin.ts'
import { isAlive } from '../fixtures/alive.ts'
import { bundledShare } from '../fixtures/nodes.ts'
import { labProblem } from './permitted.ts'

/** Two of the three hold the model. */
const SHARE = 0.6
const LINK = { mbps: 1000, latencyMs: 0.25 }
const KILL_AFTER_TOKENS = 40
const REQUEST = {
  input: {
    kind: 'chat' as const,
    messages: [{ role: 'user', content: 'Tell me a story about a robot and a lamp.' }]
  },
  maxTokens: 200,
  seed: 5
}

const say = (line: string) => process.stdout.write(`${line}\n`)

const problem = labProblem()
if (problem !== null) {
  say(`skipped: ${problem}`)
} else {
  const memoryBytes = await bundledShare(SHARE)
  await using mesh = await LabMesh.create({ names: ['a', 'b', 'c'], memoryBytes, holders: 1, link: LINK })
  await whole(mesh)
  say(
    `Hosts a, b, c in network namespaces, links of ${LINK.mbps} Mbps with ${LINK.latencyMs} ms; each gives ${memoryBytes} bytes, ${Math.round(SHARE * 100)} % of what the model needs.`
  )
  let equal = true
  for (const temperature of [0, 0.8]) equal = (await killDuring(mesh, temperature)) && equal
  process.exitCode = equal ? 0 : 1
}

/** Asks twice, kills a stage the second time, and says whether both answers are the same. */
async function killDuring(mesh: LabMesh, temperature: number): Promise<boolean> {
  const source = mesh.devices[0]!
  const request = { ...REQUEST, temperature }
  const undisturbed = await ask(source.address, request)
  say(
    `\nUndisturbed, temperature ${temperature}: ${undisturbed.tokens.length} tokens on ${stages(undisturbed)}`
  )
  const killed = { atMs: 0, tokens: 0, line: '' }
  const answer = await ask(source.address, request, {
    watch: trace => {
      if (killed.line !== '' || trace.tokens.length < KILL_AFTER_TOKENS) return
      const plan = stages(trace)
      const victim = mesh.devices.find(({ name }) => name !== source.name && plan.includes(`${name} [`))!
      const { pid } = victim
      process.kill(pid, 'SIGKILL')
      killed.atMs = performance.now() - trace.sentMs
      killed.tokens = trace.tokens.length
      killed.line = `SIGKILL to process ${pid}, the node of ${victim.name}, after ${killed.tokens} tokens`
    }
  })
  for (const { atMs, line } of story(answer, killed)) say(`${atMs.toFixed(1).padStart(9)} ms  ${line}`)
  for (const times of recoveryTimes(answer, killed.atMs)) {
    const { detectMs, planMs, loadMs, prefillMs, totalMs, tokensBefore, tokensAfter } = times
    say(
      `  detect ${ms(detectMs)} + plan ${ms(planMs)} + load ${ms(loadMs)} + re-prefill ${ms(prefillMs)} = ${ms(totalMs)} from the kill to the next token; ${tokensBefore} tokens before, ${tokensAfter} after`
    )
  }
  const verdict = compare(answer, undisturbed)
  say(`  ${verdict.kind === 'different' ? `DIFFERENT: ${verdict.why}` : verdict.kind}: "${answer.text}"`)
  await Promise.all(mesh.devices.filter(device => !isAlive(device.pid)).map(device => mesh.start(device)))
  await whole(mesh)
  return verdict.kind !== 'different'
}

function story(answer: Trace, killed: { atMs: number; line: string }): { atMs: number; line: string }[] {
  const { events, tokens, end } = answer
  const told = events.flatMap(({ atMs, event }) => {
    if (event.type === 'plan') return [{ atMs, line: `placed: ${placed(event.plan.stages)}` }]
    if (event.type === 'recovery') return [{ atMs, line: `a says: ${event.reason}` }]
    if (event.type === 'recovered') {
      const { detectMs, planMs, recruitMs, rebuildMs } = event.spent
      const parts = [detectMs, planMs, recruitMs, rebuildMs].map(ms)
      return [
        {
          atMs,
          line: `a says: recovered; since the last token ${parts[0]}, plan ${parts[1]}, recruit ${parts[2]}, rebuild ${parts[3]}`
        }
      ]
    }
    return []
  })
  const losses = events.filter(({ event }) => event.type === 'recovery')
  const next = losses.map(loss => tokens.find(({ atMs }) => atMs > loss.atMs))
  const last = tokens.at(-1)!
  return [
    { atMs: 0, line: 'a is asked' },
    ...told,
    { atMs: tokens[0]!.atMs, line: 'first token' },
    { atMs: killed.atMs, line: killed.line },
    ...next.flatMap(token => (token === undefined ? [] : [{ atMs: token.atMs, line: 'next token' }])),
    { atMs: last.atMs, line: end.kind === 'done' ? `last token, ${end.result.finishReason}` : end.message }
  ].sort((a, b) => a.atMs - b.atMs)
}

/** The last deployment of an answer. */
function stages({ events }: Trace): string {
  const planned = events.findLast(({ event }) => event.type === 'plan')?.event
  return planned?.type === 'plan' ? placed(planned.plan.stages) : 'nothing'
}

function placed(stages: { name: string; layers: readonly number[] }[]): string {
  return stages.map(({ name, layers }) => `${name} [${layers.join(', ')})`).join(' -> ')
}
