/** The least that anything is waited for, however fast the machine is. */
const LEAST_MS = 60_000
/** A node is ready after as long as two or three commands take; what else the machine does meanwhile may change. */
const COMMANDS_UNTIL_READY = 60
/** Nodes that run find each other within a second. */
const LEAST_UNTIL_FOUND_MS = 10_000
const COMMANDS_UNTIL_FOUND = 15

/** How long the demo waits for this machine, by how long its first command took here. */
export class Patience {
  readonly readyMs: number
  readonly foundMs: number

  constructor(commandMs: number) {
    this.readyMs = Math.max(LEAST_MS, Math.ceil(COMMANDS_UNTIL_READY * commandMs))
    this.foundMs = Math.max(LEAST_UNTIL_FOUND_MS, Math.ceil(COMMANDS_UNTIL_FOUND * commandMs))
  }
}
