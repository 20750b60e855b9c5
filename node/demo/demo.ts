import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Manifest } from '../../models/manifest.ts'
import { kvBytes, weightBytes } from '../../models/memory.ts'
import { ModelStore } from '../../models/store/store.ts'
import { BUNDLED_DIR } from '../bundled.ts'
import type { GenerateResult, MeshState } from '../types.ts'
import { ask } from './ask.ts'
import { edgeshard, NodeProcess } from './node-process.ts'
import { formatBytes, planPicture, whoIsThere } from './picture.ts'

/** Tokens of an answer; with the prompt it stays within the context that the budgets below are made for. */
const MAX_TOKENS = 120
const CONTEXT_TOKENS = 256
/** Each device gets so much of what the whole model needs: none can hold it, three can. */
const BUDGET_SHARE = 0.42
const PEERS_TIMEOUT_MS = 10_000

export interface DemoOptions {
  mdns: boolean
  /** Where the story goes; text without a line end continues a line. */
  write: (text: string) => void
  signal: AbortSignal
}

/** The demo's claim did not hold: nobody was found, counters are off, or answers differ. */
export class DemoError extends Error {
  override readonly name = 'DemoError'
}

const NAMES = ['desktop', 'laptop', 'mini-pc'] as const
const QUESTIONS = [
  { node: 'desktop', prompt: 'What does a thermostat do?' },
  { node: 'mini-pc', prompt: 'Tell me a story about a robot and a lamp.' }
]

/**
 * Three nodes as processes of their own, a model that fits on none of them, one prompt at each of two nodes, and the
 * same prompts at one node that holds everything. Removes all that it made, whatever happens.
 *
 * @throws {DemoError} when what it shows is not so
 */
export async function demo({ mdns, write, signal }: DemoOptions): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'edgeshard-demo-'))
  const running: NodeProcess[] = []
  const home = (name: string) => join(dir, name)
  try {
    const { name: modelName, manifest } = await bundledModel(home('bundled'))
    const whole: [number, number] = [0, manifest.layers.length]
    const neededBytes = weightBytes(manifest, whole) + kvBytes(manifest.shape, whole, CONTEXT_TOKENS)
    const budgetBytes = Math.ceil(neededBytes * BUDGET_SHARE)
    write(
      `${modelName}: ${manifest.shape.decoderLayers} decoder layers, ${formatBytes(weightBytes(manifest, whole))} of weights; with the ` +
        `KV cache of ${CONTEXT_TOKENS} tokens it needs ${formatBytes(neededBytes)}, and every device gives ${formatBytes(budgetBytes)}.\n\n`
    )

    const { ticket } = JSON.parse(await edgeshard(['invite', '--json', '--home', home(NAMES[0])], { signal }))
    for (const name of NAMES.slice(1)) await edgeshard(['join', ticket, '--home', home(name)], { signal })
    const nodes = await Promise.all(
      NAMES.map(async (name, at) => {
        const node = await NodeProcess.start(
          [
            ...['--home', home(name), '--name', name, '--port', '0', '--api', '127.0.0.1:0'],
            ...['--memory', String(budgetBytes)],
            // Only the first device has the model: the others get their layers from it.
            ...(at === 0 ? [] : ['--no-bundled']),
            ...(mdns ? [] : ['--no-mdns'])
          ],
          { signal }
        )
        running.push(node)
        return node
      })
    )
    const found = await connected(nodes, signal)
    write(`Three nodes found each other${mdns ? ' with mDNS' : ''}:\n${whoIsThere(found)}\n`)

    const answers: GenerateResult[] = []
    for (const { node: name, prompt } of QUESTIONS) {
      const node = nodes.find(node => node.name === name)!
      const before = await Promise.all(nodes.map(node => node.mesh()))
      write(`\n${name} is prompted: ${prompt}\n`)
      const answer = await ask(
        node.api,
        { model: modelName, prompt, maxTokens: MAX_TOKENS, signal },
        {
          onPlan: (plan, predicted) => write(`\n${planPicture(plan.stages, predicted)}\n\n  `),
          onText: text => write(text)
        }
      )
      write(
        `\n\n  measured:  first token ${answer.ttftMs.toFixed(1)} ms, then ${answer.tpotMs.toFixed(1)} ms a token\n`
      )
      const after = await Promise.all(nodes.map(node => node.mesh()))
      write(checkCounters(answer, before, after, manifest))
      answers.push(answer)
    }

    write('\nOne node that holds the whole model answers the same prompts:\n')
    const alone = await NodeProcess.start(
      [
        '--home',
        home('alone'),
        '--name',
        'alone',
        '--port',
        '0',
        '--api',
        '127.0.0.1:0',
        '--no-mdns',
        '--memory',
        '1GiB'
      ],
      { signal }
    )
    running.push(alone)
    for (const [at, { prompt }] of QUESTIONS.entries()) {
      const answer = await ask(alone.api, { model: modelName, prompt, maxTokens: MAX_TOKENS, signal })
      const same = JSON.stringify(answer.tokens) === JSON.stringify(answers[at]!.tokens)
      write(`  ${same ? 'equal' : 'DIFFERENT'}: ${answer.tokens.length} tokens for "${prompt}"\n`)
      if (!same) throw new DemoError('an answer of three nodes differs from the answer of one')
    }
  } finally {
    await Promise.allSettled(running.map(node => node.stop()))
    await rm(dir, { recursive: true, force: true })
  }
}

async function bundledModel(dir: string): Promise<{ name: string; manifest: Manifest }> {
  const store = await ModelStore.open(dir)
  const [model] = await store.adopt(BUNDLED_DIR)
  if (model === undefined)
    throw new DemoError(`there is no model in ${BUNDLED_DIR}: the installation is damaged`)
  return model
}

/** Waits until every node sees all others. */
async function connected(nodes: NodeProcess[], signal: AbortSignal): Promise<MeshState> {
  const deadline = AbortSignal.timeout(PEERS_TIMEOUT_MS)
  for (;;) {
    signal.throwIfAborted()
    const states = await Promise.all(nodes.map(node => node.mesh()))
    const counts = states.map(({ peers }) => peers.filter(peer => peer.connected).length)
    if (counts.every(count => count === nodes.length - 1)) return states[0]!
    if (deadline.aborted) {
      const lonely = nodes.filter((_, at) => counts[at] === 0).map(({ name }) => name)
      throw new DemoError(
        lonely.length === nodes.length
          ? `nobody was found within ${PEERS_TIMEOUT_MS / 1000} s: is multicast possible on this machine, and mDNS on?`
          : `after ${PEERS_TIMEOUT_MS / 1000} s the nodes see ${counts.join(', ')} of ${nodes.length - 1} peers each`
      )
    }
    await new Promise(resolve => setTimeout(resolve, 50))
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
