import { getConnInfo } from '@hono/node-server/conninfo'
import type { Context } from 'hono'
import { plainText } from '../../protocols/text.ts'
import { Answers } from '../answers.ts'
import type { EdgeNode, EmbedResult, GenerateEvent, PeerName } from '../api.ts'
import { errorCodeOf } from '../error-codes.ts'

/** One answer, or one request for vectors: when, for whom, and by which devices it was computed; nothing of what was said. */
export interface AuditEntry {
  /** When it ended, in UTC. */
  at: string
  requestId: string
  /** The node that was asked. */
  source: PeerName
  /** Address from which it was asked; of a proxy, where one is between. */
  client: string | null
  /** Name of the API key; null: it came without one, from the node's own device. */
  key: string | null
  /** The model as it was asked for; null: the default one. */
  model: string | null
  promptTokens: number
  /** Tokens of the answer; 0 of vectors. */
  tokens: number
  /** Devices that computed it: those of the first plan in its order, and behind them those that came later. None of vectors that failed. */
  devices: PeerName[]
  /** Finish reason, `embedded`, `cancelled`, or the code of the error that ended it. */
  outcome: string
  ms: number
}

/** Where the entries go. */
export interface Audit {
  write(entry: AuditEntry): void
}

const MAX_MODEL_CHARS = 200

type About = Pick<AuditEntry, 'requestId' | 'source' | 'client' | 'key'> & { model: string | undefined }

/** Writes an entry of vectors that are being made, when they are there or have failed. */
export async function auditedVectors(
  audit: Audit,
  work: Promise<EmbedResult>,
  { model, ...known }: About,
  left: AbortSignal
): Promise<EmbedResult> {
  const startMs = performance.now()
  const write = (over: Pick<AuditEntry, 'promptTokens' | 'devices' | 'outcome'>) =>
    audit.write({
      at: new Date().toISOString(),
      ...known,
      model: modelText(model),
      tokens: 0,
      ...over,
      ms: Math.round(performance.now() - startMs)
    })
  try {
    const result = await work
    const { promptTokens, devices } = result
    write({ promptTokens, devices, outcome: 'embedded' })
    return result
  } catch (error) {
    write({ promptTokens: 0, devices: [], outcome: left.aborted ? 'cancelled' : errorCodeOf(error) })
    throw error
  }
}

/** Passes an answer's events on, and writes its entry when it has ended. */
export function audited(
  audit: Audit,
  events: AsyncGenerator<GenerateEvent>,
  about: About
): AsyncGenerator<GenerateEvent> {
  const startMs = performance.now()
  const { model, ...known } = about
  const devices = new Map<string, PeerName>()
  let promptTokens = 0
  let tokens = 0
  return new Answers().told(events, {
    onEvent: event => {
      if (event.type === 'plan') {
        for (const { peerId, name } of event.plan.stages) devices.set(peerId, { peerId, name })
      } else if (event.type === 'prompt') promptTokens = event.tokens
      else if (event.type === 'done') {
        promptTokens = event.result.promptTokens
        tokens = event.result.tokens.length
      } else if ('tokens' in event) tokens += event.tokens.length
    },
    onEnd: outcome =>
      audit.write({
        at: new Date().toISOString(),
        ...known,
        model: modelText(model),
        promptTokens,
        tokens,
        devices: [...devices.values()],
        outcome,
        ms: Math.round(performance.now() - startMs)
      })
  })
}

function modelText(model: string | undefined): string | null {
  return model === undefined ? null : plainText(model, MAX_MODEL_CHARS)
}

/** What a request says of who sent it. */
export function askedBy(
  context: Context,
  { peerId, name }: Pick<EdgeNode, 'peerId' | 'name'>,
  holder: { name: string } | undefined
): Pick<AuditEntry, 'source' | 'client' | 'key'> {
  return {
    source: { peerId, name },
    client: getConnInfo(context).remote.address ?? null,
    key: holder?.name ?? null
  }
}
