import { randomUUID } from 'node:crypto'
import type { Grammars } from '../models/grammar/grammars.ts'
import { logger } from '../models/log.ts'
import type { Manifest } from '../models/manifest.ts'
import { REQUEST_ID } from '../protocols/fields.ts'
import type { AcceptedRequest } from './accepted-request.ts'
import type { AnswerObserver, Answers } from './answers.ts'
import type {
  DrainState,
  EdgeNode,
  EmbedRequest,
  EmbedResult,
  GenerateEvent,
  GenerateRequest,
  LoadOptions,
  MembershipControl,
  MeshState,
  ModelSummary,
  PairingControl,
  Readiness,
  ScenarioNeeds
} from './api.ts'
import { DEFAULT_PROMPT_TOKENS, EXPECTED_TOKENS } from './constants.ts'
import type { Drain } from './drain.ts'
import { endlessIfLong } from './duration.ts'
import { RequestError, StoppingError } from './errors.ts'
import type { Mesh } from './mesh/index.ts'
import type { ScenarioInput } from './plan/index.ts'
import type { ModelReadiness } from './readiness.ts'
import type { Serving } from './serve/serving.ts'
import type { Catalog } from './source/placement/catalog.ts'
import type { Deployments } from './source/placement/deployments.ts'
import type { Drafts } from './source/request/drafts.ts'
import { embed } from './source/request/embed.ts'
import { generate } from './source/request/generate.ts'
import { load } from './source/request/load.ts'
import { noticeOf } from './source/request/notices.ts'
import { encodePrompt } from './source/request/prompt.ts'
import { RequestLog } from './source/request/request-log.ts'
import type { SpotChecks } from './source/verify/spot-checks.ts'
import { roomsOf, type StageRoom } from './stage/room.ts'
import type { Fetches } from './weights/fetches.ts'

const log = logger('edgeshard:source')

export interface RunningNodeComponents {
  mesh: Mesh
  room: StageRoom
  serving: Serving
  fetches: Fetches
  catalog: Catalog
  deployments: Deployments
  drafts: Drafts
  grammars: Grammars
  checks: SpotChecks
  answers: Answers
  readiness: ModelReadiness
  drain: Drain
  /** Whether answers are exact where a request does not say. */
  exact: boolean
  /** Whether others stand by for answers where a request does not say. */
  standby: boolean
  /** Aborts when the node stops; its start may be watching it already. */
  stopping: AbortController
  onNotice: (message: string) => void
  /** Ends every part. */
  stop: () => Promise<void>
}

/** A node as programs use it: each call with the node's own end as one more reason to give up. */
export class RunningNode implements EdgeNode {
  readonly #components: RunningNodeComponents
  /** What people know of the last plan. */
  #saidOfPlan: string | undefined
  /** Aborts when the node is drained: what is loaded for later is waited for by no answer. */
  #loads = new AbortController()

  constructor(components: RunningNodeComponents) {
    this.#components = components
  }

  get peerId(): string {
    return this.#components.mesh.peerId
  }

  get name(): string {
    return this.#components.mesh.self.name
  }

  get addresses(): string[] {
    return this.#components.mesh.addresses
  }

  models(): Promise<ModelSummary[]> {
    const { catalog, stopping } = this.#components
    return catalog.summaries({ signal: stopping.signal })
  }

  mesh(): MeshState {
    const { mesh, room, serving, fetches, deployments } = this.#components
    const { open: sessions, droppedFrames } = room.sessions
    return {
      ...mesh.state(),
      leases: roomsOf(room).flatMap(({ leases }) => leases.state(id => serving.sessionsOf(id))),
      fetches: fetches.state,
      deployments: deployments.state(),
      sessions,
      droppedFrames,
      ...(room.prefixes.bytes > 0 && { prefixCache: room.prefixes.state })
    }
  }

  async readiness(): Promise<Readiness> {
    const { drain, readiness } = this.#components
    return drain.isDraining
      ? { ready: false, reasons: ['the node is being drained'] }
      : await readiness.state()
  }

  invite(): Promise<string> {
    return this.#components.mesh.members.invite()
  }

  get membership(): MembershipControl {
    return this.#components.mesh.members
  }

  get pairing(): PairingControl {
    return this.#components.mesh.pairing
  }

  async scenario(needs: ScenarioNeeds, { signal }: { signal?: AbortSignal } = {}): Promise<ScenarioInput> {
    const { catalog, deployments, drafts } = this.#components
    const until = this.#until(signal)
    const model = await catalog.promptable(needs.model, { signal: until })
    const { promptTokens = DEFAULT_PROMPT_TOKENS, newTokens = EXPECTED_TOKENS } = needs
    const { objective = 'latency', privacy = 'prompt' } = needs
    const asked = { target: model, speculate: needs.speculate, named: needs.draft }
    const guesses = await drafts.expected(asked, { signal: until })
    const request = { model, promptTokens, newTokens, objective, privacy, guesses, placement: {} }
    return await deployments.scenario(request, until)
  }

  async manifest(
    model: string | undefined,
    { signal }: { signal?: AbortSignal } = {}
  ): Promise<{ name: string; id: string; manifest: Manifest }> {
    return await this.#components.catalog.resolve(model, { signal: this.#until(signal) })
  }

  async keepAlive(
    model: string | undefined,
    ms: number,
    { signal }: { signal?: AbortSignal } = {}
  ): Promise<void> {
    const { catalog, deployments } = this.#components
    const { id } = await catalog.resolve(model, { signal: this.#until(signal) })
    deployments.keepAlive(id, endlessIfLong(ms))
  }

  async tokenize(
    text: string,
    { model, signal }: { model?: string; signal?: AbortSignal } = {}
  ): Promise<number[]> {
    const until = this.#until(signal)
    const { tokenizer } = await this.#components.catalog.promptable(model, { signal: until })
    return await tokenizer.encode(text, { signal: until })
  }

  async countTokens(
    { model, input }: Pick<GenerateRequest, 'model' | 'input'>,
    { signal }: { signal?: AbortSignal } = {}
  ): Promise<number> {
    const until = this.#until(signal)
    const { tokenizer, name } = await this.#components.catalog.promptable(model, { signal: until })
    return (await encodePrompt({ tokenizer, name }, input, until)).ids.length
  }

  async chatTemplate(
    model: string | undefined,
    { signal }: { signal?: AbortSignal } = {}
  ): Promise<string | null> {
    const promptable = await this.#components.catalog.promptable(model, { signal: this.#until(signal) })
    return promptable.tokenizer.chatTemplate
  }

  watchAnswers(begin: () => AnswerObserver): () => void {
    return this.#components.answers.watch(begin)
  }

  async *generate(
    request: GenerateRequest,
    {
      signal,
      requestId = randomUUID(),
      accepted
    }: { signal?: AbortSignal; requestId?: string; accepted?: AcceptedRequest | undefined } = {}
  ): AsyncGenerator<GenerateEvent> {
    const { catalog, deployments, drafts, grammars, standby, checks, answers, drain, exact } =
      this.#components
    const now = () => performance.now()
    const components = { catalog, deployments, drafts, grammars, standby, checks, now }
    checkRequestId(requestId)
    if (drain.isDraining && accepted === undefined) throw new StoppingError()
    const isBegun = accepted?.isBegun === true
    const asked = { ...request, exact: request.exact ?? exact }
    const events = generate(components, asked, { signal: this.#until(signal), requestId, isBegun })
    for await (const event of answers.told(events, new RequestLog(log.of(requestId)))) {
      this.#notice(event)
      if (event.type === 'plan') accepted?.began()
      yield event
    }
  }

  accept(): AcceptedRequest {
    const { answers, drain } = this.#components
    if (drain.isDraining) throw new StoppingError()
    return answers.accept()
  }

  async embed(
    request: EmbedRequest,
    { signal, requestId = randomUUID() }: { signal?: AbortSignal; requestId?: string } = {}
  ): Promise<EmbedResult> {
    const { catalog, deployments, answers, drain, exact } = this.#components
    checkRequestId(requestId)
    if (drain.isDraining) throw new StoppingError()
    return await answers.during(
      embed(
        { catalog, deployments },
        { ...request, exact: request.exact ?? exact },
        { signal: this.#until(signal), requestId, onEvent: event => this.#notice(event) }
      )
    )
  }

  async load(
    model: string | undefined,
    {
      signal,
      requestId = randomUUID(),
      ...asked
    }: LoadOptions & { signal?: AbortSignal; requestId?: string } = {}
  ): Promise<void> {
    const { catalog, deployments, drafts, drain, exact } = this.#components
    checkRequestId(requestId)
    if (drain.isDraining) throw new StoppingError()
    const until = AbortSignal.any([this.#until(signal), this.#loads.signal])
    await load(
      { catalog, deployments, drafts },
      { ...asked, model, exact: asked.exact ?? exact },
      { signal: until, requestId }
    )
  }

  #notice(event: GenerateEvent): void {
    const notice = noticeOf(event)
    // The plan of a deployment is every answer's; what is to say of it is said once.
    const isKnown = event.type === 'plan' && notice === this.#saidOfPlan
    if (event.type === 'plan') this.#saidOfPlan = notice
    if (notice !== undefined && !isKnown) this.#components.onNotice(notice)
  }

  get draining(): DrainState {
    return this.#components.drain.state
  }

  async drain({ signal, handOver = false }: { signal: AbortSignal; handOver?: boolean }): Promise<boolean> {
    const { drain } = this.#components
    drain.begin()
    this.#loads.abort(new StoppingError())
    this.#loads = new AbortController()
    return await drain.finished({ signal: this.#until(signal), handOver })
  }

  undrain(): void {
    this.#components.drain.undo()
  }

  async stop(): Promise<void> {
    const { stopping, stop } = this.#components
    if (stopping.signal.aborted) return
    stopping.abort(new StoppingError())
    await stop()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  #until(signal: AbortSignal | undefined): AbortSignal {
    const { stopping } = this.#components
    return signal === undefined ? stopping.signal : AbortSignal.any([signal, stopping.signal])
  }
}

function checkRequestId(requestId: string): void {
  if (REQUEST_ID.test(requestId)) return
  throw new RequestError('requestId has to be 1 to 64 of A-Z, a-z, 0-9, _ and -', 'requestId')
}
