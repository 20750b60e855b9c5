import type { AnswerObserver } from '../answers.ts'
import type {
  EdgeNode,
  GenerateEvent,
  GenerateResult,
  MeshState,
  PrefixCacheState,
  Priority
} from '../api.ts'
import { predictedFirstMs } from '../first-token.ts'
import { allMemory } from '../record-processors.ts'
import { Admission } from './admission.ts'
import { MAX_CONCURRENT_LOADS, MAX_CONCURRENT_REQUESTS } from './constants.ts'
import { Figures } from './figures.ts'

/** Times from a warm model on a fast device to one that is fetched and loaded over a slow link. */
const FIRST_TOKEN_SECONDS = [0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180]
/** Times from the bundled model on a desktop (1 ms) to a model that is far too large for its devices. */
const TOKEN_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5]
/** Parts of a token's time: a hop on loopback takes 0.3 ms, one over Wi-Fi several, a bad one hundreds. */
const PART_SECONDS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1]
/** Losses are noticed at once or after the silence of a few heartbeats; weights that must be fetched take longest. */
const RECOVERY_SECONDS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
/** Measured over predicted: 1 is right, the cost model aims at a few percent. */
const RATIOS = [0.25, 0.5, 0.75, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 4, 16]

/** Where devices' clocks differ, a part of a step may come out as less than nothing, and another longer. */
const seconds = (ms: number): number => Math.max(0, ms) / 1000

/** The figures of one node in Prometheus' words: what its answers told, and the mesh as it is when they are asked for. */
export class HttpMetrics {
  /** Places for answers over HTTP. */
  readonly answers = new Admission(MAX_CONCURRENT_REQUESTS, 'answers under way')
  /** Places for loads over HTTP: they keep none from an answer. */
  readonly loads = new Admission(MAX_CONCURRENT_LOADS, 'loads under way')
  readonly #figures = new Figures()
  readonly #node: EdgeNode
  readonly #unwatch: () => void
  /** The state when the figures were last asked for. */
  #mesh: MeshState
  #waiting = 0

  readonly #ended = this.#figures.counter('answers_total', 'Answers that ended, by how.', ['outcome'])
  readonly #promptTokens = this.#figures.counter('prompt_tokens_total', 'Tokens of answered prompts.')
  readonly #cachedTokens = this.#figures.counter(
    'prompt_cached_tokens_total',
    'Those that an earlier turn had left in KV caches.'
  )
  readonly #generatedTokens = this.#figures.counter(
    'generated_tokens_total',
    'Tokens generated, those of thoughts and calls among them.'
  )
  readonly #guesses = this.#figures.counter(
    'guesses_total',
    'Tokens that were fed before it was known that they follow, by what became of them: held or dropped.',
    ['outcome']
  )
  readonly #recoveries = this.#figures.counter(
    'recoveries_total',
    'Stages lost during an answer, by what the peer was: draining (it handed the stage over), disconnected, silent, or connected (slow, refusing, wrong).',
    ['cause']
  )
  readonly #recoverySeconds = this.#figures.histogram(
    'recovery_seconds',
    'From the last token before a loss to the next one, by phase.',
    RECOVERY_SECONDS,
    ['phase']
  )
  readonly #ttft = this.#figures.histogram(
    'ttft_seconds',
    'From a request to its first token.',
    FIRST_TOKEN_SECONDS
  )
  readonly #placing = this.#figures.histogram(
    'placing_seconds',
    'From a request that came with a key to its place on devices, by the priority of its key.',
    FIRST_TOKEN_SECONDS,
    ['priority']
  )
  readonly #tpot = this.#figures.histogram(
    'tpot_seconds',
    'Mean time between two tokens of an answer.',
    TOKEN_SECONDS
  )
  readonly #compute = this.#figures.histogram(
    'stage_compute_seconds',
    'Computing of a stage in a decode step: the mean of an answer.',
    PART_SECONDS
  )
  readonly #wait = this.#figures.histogram(
    'stage_wait_seconds',
    'Waiting of a decode step for a stage: its thread and turn; the mean of an answer.',
    PART_SECONDS
  )
  readonly #hop = this.#figures.histogram(
    'hop_seconds',
    "From a stage's send to the next one's arrival in a decode step: the mean of an answer.",
    PART_SECONDS
  )
  readonly #prediction = this.#figures.histogram(
    'prediction_ratio',
    'What an answer took over what its plan predicted, for the first token and for those behind it.',
    RATIOS,
    ['figure']
  )

  constructor(node: EdgeNode) {
    this.#node = node
    this.#mesh = node.mesh()
    this.#unwatch = node.watchAnswers(() => this.#observer())
    this.#figures.gauge('answers_active', 'Answers under way over HTTP.', () => this.answers.active)
    this.#figures.gauge('answers_waiting', 'Answers that wait to be placed on devices.', () => this.#waiting)
    this.#ofMesh()
  }

  /** All figures in Prometheus' text format. */
  async render(): Promise<{ text: string; contentType: string }> {
    this.#mesh = this.#node.mesh()
    return await this.#figures.render()
  }

  /** Takes note of how long one answer waits for its place. */
  placing(priority: Priority): AnswerObserver {
    const startMs = performance.now()
    let placed = false
    return {
      onEvent: ({ type }) => {
        if (type === 'plan' && !placed)
          this.#placing.observe({ priority }, seconds(performance.now() - startMs))
        if (type === 'plan') placed = true
      },
      onEnd: () => {}
    }
  }

  /** Counts no further answers. */
  stop(): void {
    this.#unwatch()
  }

  #observer(): AnswerObserver {
    this.#waiting++
    let placed = false
    let generated = 0
    const count = (tokens: number) => {
      this.#generatedTokens.inc(tokens)
      generated += tokens
    }
    const placing = () => {
      if (!placed) this.#waiting--
      placed = true
    }
    return {
      onEvent: event => {
        if (event.type === 'plan') placing()
        if (event.type === 'text' || event.type === 'reasoning') count(event.tokens.length)
        // Those of calls come in no event.
        if (event.type === 'done') count(Math.max(0, event.result.tokens.length - generated))
        this.#count(event)
      },
      onEnd: outcome => {
        placing()
        this.#ended.inc({ outcome })
      }
    }
  }

  #count(event: GenerateEvent): void {
    if (event.type === 'recovery') this.#recoveries.inc({ cause: this.#stateOf(event.peerId) })
    else if (event.type === 'recovered') {
      const { detectMs, planMs, recruitMs, rebuildMs } = event.spent
      for (const [phase, spentMs] of Object.entries({
        detect: detectMs,
        plan: planMs,
        recruit: recruitMs,
        rebuild: rebuildMs
      })) {
        this.#recoverySeconds.observe({ phase }, seconds(spentMs))
      }
    } else if (event.type === 'done') this.#countResult(event.result)
  }

  #countResult(result: GenerateResult): void {
    const { promptTokens, cachedTokens, tokens, ttftMs, tpotMs, predicted, measured } = result
    const { guesses, recoveries, moves, standby } = result
    this.#promptTokens.inc(promptTokens)
    this.#cachedTokens.inc(cachedTokens)
    if (guesses !== undefined) {
      this.#guesses.inc({ outcome: 'held' }, guesses.held)
      this.#guesses.inc({ outcome: 'dropped' }, guesses.dropped)
    }
    this.#ttft.observe(seconds(ttftMs))
    const firstMs = predictedFirstMs(predicted)
    if (firstMs > 0) this.#prediction.observe({ figure: 'ttft' }, ttftMs / firstMs)
    if (tokens.length < 2) return
    this.#tpot.observe(seconds(tpotMs))
    // After a loss or a move the prediction is of another plan, and it is one without guesses and without what stands by.
    const isAsPlanned = recoveries === 0 && moves === undefined && standby === undefined
    if (predicted.tpotMs > 0 && isAsPlanned && guesses === undefined)
      this.#prediction.observe({ figure: 'tpot' }, tpotMs / predicted.tpotMs)
    for (const { computeMs, waitMs } of measured.stages) {
      this.#compute.observe(seconds(computeMs))
      this.#wait.observe(seconds(waitMs))
    }
    for (const hopMs of measured.linksMs) this.#hop.observe(seconds(hopMs))
  }

  #stateOf(peerId: string): 'draining' | 'disconnected' | 'silent' | 'connected' {
    const peer = this.#node.mesh().peers.find(candidate => candidate.peerId === peerId)
    if (peer?.connected !== true) return 'disconnected'
    if (peer.suspect) return 'silent'
    return peer.draining === true ? 'draining' : 'connected'
  }

  /** What the mesh's state says when the figures are asked for. */
  #ofMesh(): void {
    const of = (read: (state: MeshState) => number) => () => read(this.#mesh)
    const total = (name: string, help: string, read: (state: MeshState) => number) =>
      this.#figures.total(name, help, of(read))
    const state = (name: string, help: string, read: (mesh: MeshState) => number) =>
      this.#figures.gauge(name, help, of(read))
    total('frames_sent_total', 'Frames between stages sent.', ({ self }) => self.counters.framesSent)
    total(
      'frames_received_total',
      'Frames between stages received.',
      ({ self }) => self.counters.framesReceived
    )
    total('frames_dropped_total', 'Frames that came for closed sessions.', mesh => mesh.droppedFrames)
    this.#figures.kinds('sent_bytes_total', 'Bytes sent to peers, by kind.', () => {
      const { counters } = this.#mesh.self
      return { hidden: counters.hiddenBytesSent, weights: counters.weightBytesSent }
    })
    this.#figures.kinds('received_bytes_total', 'Bytes received from peers, by kind.', () => {
      const { counters } = this.#mesh.self
      return { hidden: counters.hiddenBytesReceived, weights: counters.weightBytesReceived }
    })
    state('memory_budget_bytes', 'Memory offered to stages.', ({ self }) => allMemory(self).budgetBytes)
    state('memory_leased_bytes', 'Memory that leases take of it.', ({ self }) => {
      const { budgetBytes, freeBytes } = allMemory(self)
      return Math.max(0, budgetBytes - freeBytes)
    })
    state('peers_connected', 'Peers that are connected.', mesh => mesh.peers.filter(p => p.connected).length)
    state(
      'peers_suspect',
      'Connected peers that have fallen silent.',
      mesh => mesh.peers.filter(p => p.suspect).length
    )
    state('draining', 'Whether this node is being drained: 1 or 0.', ({ self }) =>
      self.draining === true ? 1 : 0
    )
    state('sessions', 'Sessions that begin here or have a stage here.', mesh => mesh.sessions)
    state('leases', 'Leases that this node has given.', mesh => mesh.leases.length)
    state('deployments', 'Models that this node has placed and keeps warm.', mesh => mesh.deployments.length)
    this.#ofPrefixCache()
    state('fetches', 'Models whose weights are on their way here.', mesh => mesh.fetches.length)
  }

  /** What conversations had in KV caches when others took their slots (`up --prefix-cache`). */
  #ofPrefixCache(): void {
    const of = (read: (cache: PrefixCacheState) => number) => () => {
      const { prefixCache } = this.#mesh
      return prefixCache === undefined ? 0 : read(prefixCache)
    }
    const figures = this.#figures
    figures.gauge(
      'prefix_cache_budget_bytes',
      'Memory for what conversations had in KV caches when others took their slots.',
      of(({ budgetBytes }) => budgetBytes)
    )
    figures.gauge(
      'prefix_cache_held_bytes',
      'What is kept of it.',
      of(({ heldBytes }) => heldBytes)
    )
    figures.gauge(
      'prefix_cache_file_bytes',
      'What is kept of it on disk.',
      of(({ fileBytes }) => fileBytes)
    )
    figures.total(
      'prefix_cache_stored_total',
      'Conversations that were kept.',
      of(({ stored }) => stored)
    )
    figures.kinds(
      'prefix_cache_asked_total',
      'Conversations that were gone on from, by where they were: memory, file, or gone.',
      () => ({ ...(this.#mesh.prefixCache?.asked ?? { memory: 0, file: 0, gone: 0 }) })
    )
  }
}
