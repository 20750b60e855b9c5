/** A line of the table: what something takes, over what it takes otherwise, in one run. */
export interface Row {
  setting: string
  againstMs: number
  ms: number
  /** What the ratio is to be at most. */
  aim: number
  and: string
  /** Whether each stage was held to its share of a processor; absent: it was not to be. */
  held?: boolean
}

export interface How {
  newTokens: number
  rounds: number
  cpus: number
  /** Stages compute nothing and wait, all together so long for a step. */
  computeMs: number | undefined
}
