/** The client asked for something wrong or impossible: HTTP 400. `param` names the field. */
export class RequestError extends Error {
  override readonly name: string = 'RequestError'
  readonly code: string = 'invalid_request'
  readonly param: string | undefined

  constructor(message: string, param?: string) {
    super(message)
    this.param = param
  }
}

/** Prompt or conversation fill the model's context: HTTP 400, code `context_length_exceeded`. */
export class ContextLengthError extends RequestError {
  override readonly name = 'ContextLengthError'
  override readonly code = 'context_length_exceeded'
}

/** Too many requests wait already: HTTP 429. */
export class BusyError extends Error {
  override readonly name = 'BusyError'
  readonly code = 'busy'
}

/** The node is being switched off: it takes nothing new, and ends what still runs. HTTP 503. */
export class StoppingError extends Error {
  override readonly name = 'StoppingError'
  readonly code = 'stopping'

  constructor() {
    super('this node is being switched off: ask another one, or again when it is back')
  }
}

/** The model that was asked for is held by no peer in the mesh: HTTP 404. */
export class UnknownModelError extends Error {
  override readonly name = 'UnknownModelError'
  readonly code = 'model_not_found'
}

/** Several models of the mesh have the name that was asked for; the message lists them, and an id tells them apart: HTTP 400. */
export class AmbiguousModelError extends Error {
  override readonly name = 'AmbiguousModelError'
  readonly code = 'model_ambiguous'
}

/** No placement fits; the message says what is needed and what is offered: HTTP 503, exit status 3. */
export class PlanRefusedError extends Error {
  override readonly name = 'PlanRefusedError'
  readonly code = 'infeasible'
}

/** A stage died, refused or fell silent; the message names the peer and the layers: HTTP 502. */
export class StageLostError extends Error {
  override readonly name = 'StageLostError'
  readonly code = 'stage_lost'
  readonly peerId: string
  /** Two peers that are well, each for itself, and cannot reach each other. */
  readonly apart: readonly [string, string] | undefined

  constructor(
    message: string,
    peerId: string,
    { apart, ...options }: ErrorOptions & { apart?: readonly [string, string] } = {}
  ) {
    super(message, options)
    this.peerId = peerId
    this.apart = apart
  }
}

/**
 * A stage was handed over, as its device is being drained: nothing is lost, and the answer goes on without it. The message
 * names the device and the layers. Only answers that cannot go on anywhere else end with it.
 */
export class StageHandedOverError extends StageLostError {}

/** What computed a stage of this node itself has ended: its GPU's driver crashed, say. The answer goes on without that. */
export class OwnStageLostError extends StageLostError {}

/** This node's own stage does not end a step: its runtime hangs, or its memory is on the disk. HTTP 500. */
export class OwnStageHangsError extends Error {
  override readonly name = 'OwnStageHangsError'
  readonly code = 'stage_hangs'

  constructor(tokens: number, withinMs: number) {
    const step = tokens === 1 ? 'one token' : `${tokens} tokens`
    super(
      `this node has not computed a step of ${step} within ${withinMs / 60_000} min: its runtime hangs, or its memory is ` +
        'swapped out; see edgeshard doctor, and start the node again'
    )
  }
}

/** This node's own stage could not be loaded; the message names the layers and says why: HTTP 500. */
export class OwnStageNotLoadedError extends Error {
  override readonly name = 'OwnStageNotLoadedError'
  readonly code = 'stage_not_loaded'
}

/** The Node that runs this program is too old for a node of the mesh; the message names the one it needs. */
export class NodeTooOldError extends Error {
  override readonly name = 'NodeTooOldError'
  readonly code = 'node_too_old'
}
