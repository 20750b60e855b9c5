import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Manifest } from '../../models/manifest.ts'
import { leaseBytes, weightBytes } from '../../models/runtime/memory.ts'
import { ModelStore } from '../../models/store/store.ts'
import type { GenerateResult, MeshState } from '../api.ts'
import { BUNDLED_DIR } from '../bundled.ts'
import { formatBytes, formatMs } from '../units.ts'
import { ask } from './ask.ts'
import { DemoError } from './errors.ts'
import { answerWithGuesses } from './guessed-answer.ts'
import type { NodeProcess } from './node-process.ts'
import { planPicture, whoIsThere } from './picture.ts'
import { Stagehand } from './stagehand.ts'

/** Tokens of an answer; with the prompt it stays within the context that the budgets below are made for. */
const MAX_TOKENS = 200
const CONTEXT_TOKENS = 256
/** Each device gets so much of what the whole model needs: none can hold it, three can. */
const BUDGET_SHARE = 0.42

export interface DemoOptions {
  mdns: boolean
  /** Where the story goes; text without a line end continues a line. */
  write: (text: string) => void
  signal: AbortSignal
}

const NAMES = ['desktop', 'laptop', 'mini-pc'] as const
/** Joins later: the others can do without one of them then. */
const SPARE = 'tablet'
const QUESTIONS = [
  { node: 'desktop', prompt: 'What does a thermostat do?' },
  { node: 'mini-pc', prompt: 'Tell me a story about a robot and a lamp.' }
]

/**
 * Three nodes as processes of their own, a model that fits on none of them, one prompt at each of two nodes, and the
 * same prompts at one node that holds everything; then one of them with guesses ahead, while a device is lost. Removes all that it made, whatever happens.
 *
 * @throws {DemoError} when what it shows is not so
 */
export async function demo({ mdns, write, signal }: DemoOptions): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'edgeshard-demo-'))
  const stage = new Stagehand(dir, signal)
  try {
    const { name: model, manifest } = await bundledModel(join(dir, 'bundled'))
    const whole: [number, number] = [0, manifest.layers.length]
    const weights = weightBytes(manifest, whole)
    const needed = leaseBytes(manifest, whole, { slots: 1, maxTokens: CONTEXT_TOKENS })
    const neededBytes = needed.weightBytes + needed.ownBytes
    const budgetBytes = Math.ceil(neededBytes * BUDGET_SHARE)
    write(
      `${model}: ${manifest.shape.decoderLayers} decoder layers, ${formatBytes(weights)} of weights; with the KV cache ` +
        `of ${CONTEXT_TOKENS} tokens it needs ${formatBytes(neededBytes)}, every device gives ${formatBytes(budgetBytes)}.\n\n`
    )

    const options = (name: string) => [
      ...['--memory', String(budgetBytes)],
      // Only the first device has the model: the others get their layers from it.
      ...(name === NAMES[0] ? [] : ['--no-bundled']),
      ...(mdns ? [] : ['--no-mdns'])
    ]
    const { nodes, patience } = await stage.startMesh(NAMES, options)
    const found = await connected(nodes, patience.foundMs, stage.signal)
    write(`Three nodes found each other${mdns ? ' with mDNS' : ''}:\n${whoIsThere(found)}\n`)

    const answers: GenerateResult[] = []
    for (const { node, prompt } of QUESTIONS) {
      const source = nodes.find(({ name }) => name === node)!
      answers.push(await answerOf(source, nodes, { model, prompt, manifest, write, signal: stage.signal }))
    }

    write('\nOne node that holds the whole model answers the same prompts:\n')
    const [alone] = await stage.start(['alone'], () => ['--no-mdns', '--memory', '1GiB'])
    for (const [at, { prompt }] of QUESTIONS.entries()) {
      const { tokens } = await ask(alone!.api, { model, prompt, maxTokens: MAX_TOKENS, signal: stage.signal })
      const same = JSON.stringify(tokens) === JSON.stringify(answers[at]!.tokens)
      write(`  ${same ? 'equal' : 'DIFFERENT'}: ${tokens.length} tokens for "${prompt}"\n`)
      if (!same) throw new DemoError('an answer of three nodes differs from the answer of one')
    }

    const first = nodes[0]!
    const all = [...nodes, ...(await stage.join(stage.homeOf(first.name), [SPARE], options))]
    await connected(all, patience.foundMs, stage.signal)
    write(`\n${SPARE} joins: there is a device to spare.\n`)
    const guessed = { model, prompt: QUESTIONS[1]!.prompt, expected: answers[1]!.tokens }
    await answerWithGuesses(first, all, node => stage.lose(node), {
      ...guessed,
      maxTokens: MAX_TOKENS,
      write,
      signal: stage.signal
    })
  } finally {
    await stage.clear()
  }
}

/** Prompts one node, shows plan and text as they come, and holds every node's counters against the plan. */
async function answerOf(
  source: NodeProcess,
  nodes: NodeProcess[],
  {
    model,
    prompt,
    manifest,
    write,
    signal
  }: { model: string; prompt: string; manifest: Manifest; write: DemoOptions['write']; signal: AbortSignal }
): Promise<GenerateResult> {
  const counters = () => Promise.all(nodes.map(node => node.mesh({ signal })))
  const before = await counters()
  write(`\n${source.name} is prompted: ${prompt}\n`)
  const answer = await ask(
    source.api,
    { model, prompt, maxTokens: MAX_TOKENS, signal },
    {
      onPlan: (plan, predicted) => write(`\n${planPicture(plan.stages, predicted)}\n\n  `),
      onText: text => write(text)
    }
  ).catch(async error => {
    throw await source.explain(error)
  })
  const { ttftMs, tpotMs } = answer
  write(`\n\n  measured:  first token ${formatMs(ttftMs)}, then ${formatMs(tpotMs)} a token\n`)
  write(checkCounters(answer, before, await counters(), manifest))
  return answer
}

async function bundledModel(dir: string): Promise<{ name: string; manifest: Manifest }> {
  const store = await ModelStore.open(dir)
  const [model] = await store.adopt(BUNDLED_DIR)
  if (model === undefined)
    throw new DemoError(`there is no model in ${BUNDLED_DIR}: the installation is damaged`)
  return model
}

/** Waits until every node sees all others. */
async function connected(nodes: NodeProcess[], timeoutMs: number, signal: AbortSignal): Promise<MeshState> {
  const deadline = AbortSignal.timeout(timeoutMs)
  const waited = `${Math.round(timeoutMs / 1000)} s`
  for (;;) {
    signal.throwIfAborted()
    const states = await Promise.all(nodes.map(node => node.mesh({ signal })))
    const counts = states.map(({ peers }) => peers.filter(peer => peer.connected).length)
    if (counts.every(count => count === nodes.length - 1)) return states[0]!
    if (deadline.aborted) {
      const lonely = nodes.filter((_, at) => counts[at] === 0).map(({ name }) => name)
      throw new DemoError(
        lonely.length === nodes.length
          ? `nobody was found within ${waited}: is multicast possible on this machine, and mDNS on?`
          : `after ${waited} the nodes see ${counts.join(', ')} of ${nodes.length - 1} peers each`
      )
    }
    await delay(50, undefined, { signal })
  }
}

/** Hidden states on the wire, device by device, against tokens x activation size. */
function checkCounters(
  answer: GenerateResult,
  before: MeshState[],
  after: MeshState[],
  manifest: Manifest
): string {
  const { stages } = answer.plan
  // Every stage but the last hands on each prompt token and each generated token but the last one drawn.
  const drawn = answer.tokens.length + (answer.finishReason === 'stop' ? 1 : 0)
  const expected =
    (answer.promptTokens + drawn - 1) * manifest.shape.hiddenSize * Float32Array.BYTES_PER_ELEMENT
  const lines = after.map(({ self }, at) => {
    const start = before[at]!.self.counters
    const frames = self.counters.framesSent - start.framesSent
    const bytes = self.counters.hiddenBytesSent - start.hiddenBytesSent
    const weights = self.counters.weightBytesReceived - start.weightBytesReceived
    const hands = stages.slice(0, -1).filter(stage => stage.peerId === self.peerId).length
    if (bytes !== hands * expected) {
      throw new DemoError(
        `${self.name} sent ${bytes} bytes of hidden states; ${hands * expected} were to be sent`
      )
    }
    const fetched = weights === 0 ? '' : `, fetched ${formatBytes(weights)} of weights`
    return `  ${self.name.padEnd(9)} sent ${frames} frames, ${bytes} bytes of hidden states${fetched}`
  })
  const sum = `(${answer.promptTokens} prompt + ${drawn - 1} fed-back tokens) x ${manifest.shape.hiddenSize} x 4 bytes = ${expected}`
  return `${lines.join('\n')}\n  expected of each stage but the last: ${sum}\n`
}
