/** A statement of a parsed template, as far as it is looked at. */
export interface Statement {
  type: string
  body?: Statement[]
  alternate?: Statement[]
  defaultBlock?: Statement[]
}

/** What a list of statements may do, in the loop that it is in. */
interface Effect {
  /** It may write something. */
  writes: boolean
  /** It may leave the turn of the loop behind something that was written. */
  loses: boolean
}

/**
 * The library forgets what a turn of a loop has written when `break` or `continue` ends it (@huggingface/jinja 0.5,
 * Interpreter.evaluateFor): where that may happen, the text would be another than the model was trained on.
 *
 * @returns whether the template does that.
 */
export function losesOutput(statements: readonly Statement[]): boolean {
  return effectOf(statements, false).loses
}

/** @param written something was written before, in the same turn. */
function effectOf(statements: readonly Statement[], written: boolean): Effect {
  let writes = false
  let loses = false
  for (const { type, body = [], alternate = [], defaultBlock = [] } of statements) {
    const before: boolean = written || writes
    switch (type) {
      case 'Break':
      case 'Continue':
        loses ||= before
        break
      case 'Comment':
        break
      case 'If': {
        const effects: Effect[] = [effectOf(body, before), effectOf(alternate, before)]
        writes ||= effects.some(effect => effect.writes)
        loses ||= effects.some(effect => effect.loses)
        break
      }
      case 'For': {
        // Each turn begins with nothing; `else` belongs to the loop around.
        const turn: Effect = effectOf(body, false)
        const otherwise: Effect = effectOf(defaultBlock, before)
        writes ||= turn.writes || otherwise.writes
        loses ||= turn.loses || otherwise.loses
        break
      }
      case 'Set':
      case 'Macro':
        loses ||= effectOf(body, false).loses
        break
      default:
        // Text, an expression, or a block of a call or filter.
        writes = true
        loses ||= effectOf(body, before).loses
    }
  }
  return { writes, loses }
}
