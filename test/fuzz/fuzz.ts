import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { admittedMembership } from '../fixtures/admitted.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { answer, ask, bundledManifest, bundledShare, Nodes, SECRET } from '../fixtures/nodes.ts'
import { rawMember } from '../node/mesh/raw-member.ts'
import { Random } from '../protocols/mutate.ts'
import { Flood, type StreamFates } from './flood.ts'
import { sayings } from './sayings.ts'

export interface FuzzOptions {
  messages: number
  seed: number
  /** Told now and then how many messages were sent. */
  onProgress?: (sent: number) => void
}

export interface FuzzReport {
  /** Messages that left on an open stream, by protocol. */
  sent: Record<string, number>
  streams: StreamFates
  /** Answers of an honest peer that went through the node meanwhile, and those among them with other tokens. */
  answers: { total: number; different: number }
  /** How much more memory the node had at the end than after the first tenth, when all that it keeps was made. */
  growthBytes: number
  /** What hostile members left behind. */
  leases: number
}

interface TargetState {
  rssBytes: number
  leases: number
}

/** Members that send at the same time; a host takes a few new connections a second from one address. */
const MEMBERS = 12
const PROMPT = 'Tell me a story about a robot and a lamp.'

/**
 * Sends a node mutated messages on all of its protocols, from members of its mesh, while an honest peer has answers
 * computed by it.
 *
 * @throws when the node ends, or an answer does
 */
export async function fuzz({ messages, seed, onProgress }: FuzzOptions): Promise<FuzzReport> {
  await using nodes = new Nodes()
  const manifest = await bundledManifest()
  await using target = await Target.start(await nodes.home(), 4 * (await bundledShare(1)))
  const source = await nodes.add({
    memoryBytes: await bundledShare(0.6),
    peers: target.addresses.slice(0, 1)
  })
  const request = ask(PROMPT, { maxTokens: 24 })
  const first = await answer(source, request)
  if (first.plan.stages.every(({ peerId }) => peerId !== target.peerId)) {
    throw new Error('the honest peer does not need the node')
  }

  const { mesh, statements } = await admittedMembership(SECRET, target.peerId)
  const facts = {
    target: target.peerId,
    modelId: source.mesh().deployments[0]!.modelId,
    blobs: [...manifest.layers, ...Object.values(manifest.files)].map(({ sha256 }) => sha256),
    layers: manifest.layers.length,
    mesh,
    admission: statements[0]!
  }
  const flood = new Flood(await sayings(), facts, messages)
  const members = Array.from({ length: MEMBERS }, async (_, at) => {
    const random = new Random(seed + at)
    while (!flood.over) {
      await using member = await rawMember(target, { secret: SECRET })
      await flood.from(member, random)
    }
  })
  const answers = { total: 0, different: 0 }
  let early: Promise<TargetState> | undefined
  const honest = async () => {
    while (!flood.over) {
      const { tokens } = await answer(source, request)
      answers.total++
      if (tokens.join() !== first.tokens.join()) answers.different++
      onProgress?.(flood.count)
      if (flood.count > messages / 10) early ??= target.state()
    }
  }
  await target.unlessItEnds(Promise.all([...members, honest()]))

  const last = await target.calm()
  const { rssBytes } = (await early) ?? last
  const { sent, streams } = flood
  return { sent, streams, answers, growthBytes: last.rssBytes - rssBytes, leases: last.leases - 1 }
}

/** The node, in a process of its own, so that its memory is its own and its end is seen. */
class Target implements AsyncDisposable {
  readonly addresses: string[]
  readonly peerId: string
  readonly #child: ChildProcess

  private constructor(child: ChildProcess, { addresses, peerId }: { addresses: string[]; peerId: string }) {
    this.#child = child
    this.addresses = addresses
    this.peerId = peerId
  }

  static async start(home: string, memoryBytes: number): Promise<Target> {
    const child = fork(new URL('target.ts', import.meta.url), [home, String(memoryBytes)], {
      execArgv: ['--expose-gc']
    })
    const [ready] = await once(child, 'message', { signal: AbortSignal.timeout(deadlineMs(30_000)) })
    return new Target(child, ready)
  }

  async state(): Promise<TargetState> {
    this.#child.send('state')
    const [state] = await once(this.#child, 'message', { signal: AbortSignal.timeout(deadlineMs(30_000)) })
    return state
  }

  /** Its state when only the honest peer's lease is left, or after a while in which more than that stay. */
  async calm(): Promise<TargetState> {
    const late = AbortSignal.timeout(deadlineMs(20_000))
    for (;;) {
      const state = await this.state()
      if (state.leases <= 1 || late.aborted) return state
      await delay(200)
    }
  }

  /** Resolves as `work` does; throws when the node ends before. */
  async unlessItEnds<T>(work: Promise<T>): Promise<T> {
    const ended = once(this.#child, 'exit').then(([code, signal]) => {
      throw new Error(`the node ended: ${signal ?? `exit status ${code}`}`)
    })
    return await Promise.race([work, ended])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const exit = once(this.#child, 'exit')
    this.#child.disconnect()
    const force = setTimeout(() => this.#child.kill('SIGKILL'), deadlineMs(10_000))
    await exit
    clearTimeout(force)
  }
}
