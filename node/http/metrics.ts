import type { EdgeNode, GenerateEvent } from '../api.ts'
import { Admission } from './admission.ts'
import { MAX_CONCURRENT_REQUESTS } from './constants.ts'

/** Totals of the HTTP server since it started. */
export class HttpMetrics {
  readonly answers = new Admission(MAX_CONCURRENT_REQUESTS, 'answers under way')
  readonly #ended = new Map<string, number>()
  #promptTokens = 0
  #generatedTokens = 0
  #ttftSecondsSum = 0
  #recoveries = 0

  /** Passes an answer's events on and counts how it ends. */
  async *counted(events: AsyncGenerator<GenerateEvent>): AsyncGenerator<GenerateEvent> {
    let outcome = 'cancelled'
    try {
      for await (const event of events) {
        if (event.type === 'text') this.#generatedTokens += event.tokens.length
        if (event.type === 'done') {
          const { finishReason, promptTokens, ttftMs, recoveries } = event.result
          outcome = finishReason
          this.#promptTokens += promptTokens
          this.#ttftSecondsSum += ttftMs / 1000
          this.#recoveries += recoveries
        }
        yield event
      }
    } catch (error) {
      if (error instanceof Error && error.name !== 'AbortError') outcome = error.name
      throw error
    } finally {
      this.#ended.set(outcome, (this.#ended.get(outcome) ?? 0) + 1)
    }
  }

  /** All figures of this node in Prometheus' text format. */
  render(node: EdgeNode): string {
    const { self, peers, leases, sessions, droppedFrames } = node.mesh()
    const { counters, memory } = self
    const ended = [...this.#ended].map(([outcome, count]) => ({
      labels: `{outcome="${outcome}"}`,
      value: count
    }))
    return [
      metric('edgeshard_answers_total', 'counter', 'Answers that ended, by how.', ended),
      metric('edgeshard_answers_active', 'gauge', 'Answers under way.', this.answers.active),
      metric('edgeshard_prompt_tokens_total', 'counter', 'Tokens of answered prompts.', this.#promptTokens),
      metric('edgeshard_generated_tokens_total', 'counter', 'Tokens generated.', this.#generatedTokens),
      metric(
        'edgeshard_ttft_seconds_sum',
        'counter',
        'Time to the first token, summed.',
        this.#ttftSecondsSum
      ),
      metric('edgeshard_recoveries_total', 'counter', 'Stages replaced during an answer.', this.#recoveries),
      metric('edgeshard_frames_sent_total', 'counter', 'Frames of hidden states sent.', counters.framesSent),
      metric('edgeshard_frames_received_total', 'counter', 'Frames received.', counters.framesReceived),
      metric('edgeshard_hidden_sent_bytes_total', 'counter', 'Hidden states sent.', counters.hiddenBytesSent),
      metric('edgeshard_hidden_received_bytes_total', 'counter', 'Received.', counters.hiddenBytesReceived),
      metric('edgeshard_weights_sent_bytes_total', 'counter', 'Weights sent.', counters.weightBytesSent),
      metric('edgeshard_weights_received_bytes_total', 'counter', 'Received.', counters.weightBytesReceived),
      metric('edgeshard_memory_budget_bytes', 'gauge', 'Memory offered to stages.', memory.budgetBytes),
      metric('edgeshard_memory_free_bytes', 'gauge', 'Of it, not leased.', memory.freeBytes),
      metric('edgeshard_peers_connected', 'gauge', 'Peers.', peers.filter(peer => peer.connected).length),
      metric('edgeshard_sessions', 'gauge', 'Sessions that begin here or have a stage here.', sessions),
      metric('edgeshard_frames_dropped_total', 'counter', 'Frames for closed sessions.', droppedFrames),
      metric('edgeshard_leases', 'gauge', 'Leases that this node has given.', leases.length)
    ].join('')
  }
}

type Samples = number | { labels: string; value: number }[]

function metric(name: string, type: 'counter' | 'gauge', help: string, samples: Samples): string {
  const list = typeof samples === 'number' ? [{ labels: '', value: samples }] : samples
  const lines = list.map(({ labels, value }) => `${name}${labels} ${value}\n`)
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('')}`
}
