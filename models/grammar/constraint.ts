import { asGrammarError, GrammarError } from './errors.ts'
import { objectBody, schemaBody } from './json-schema.ts'
import { jsonString } from './json-string.ts'
import { BLANK, jsonArray, jsonEntry, jsonLiteral, jsonMap, jsonValue } from './json-text.ts'
import { regexBody } from './regex.ts'
import { checkLength, each, either, literal, Rules } from './rules.ts'

/** What an answer has to look like. */
export type Constraint =
  /** JSON that a schema takes; `{ type: 'object' }` is any object. */
  | { kind: 'schema'; schema: unknown }
  /** A text that a regular expression matches as a whole. */
  | { kind: 'regex'; pattern: string }
  /** One of some texts. */
  | { kind: 'choice'; choices: readonly string[] }
  /** A grammar in EBNF, as GBNF writes it, whose rule `root` is an answer. */
  | { kind: 'grammar'; text: string }

  /** One call of a tool, or with `parallel` perhaps a list of them: `{"name", "arguments"}`, as any model is told to write it. */
  | { kind: 'calls'; tools: readonly CalledTool[]; parallel: boolean }

/** A tool as its calls are held to it. */
export interface CalledTool {
  name: string
  /** Schema of the arguments; absent: any object. */
  parameters?: unknown
}

const MAX_CHOICES = 4096
const MAX_CALLS = 16

/**
 * A constraint as a grammar in EBNF. A hostile one may take long, and all the memory that there is: this is for a thread that can
 * be ended.
 *
 * @throws {GrammarError} where it cannot be one, whatever is strange about it
 */
export function grammarOf(constraint: Constraint): string {
  try {
    return limited(written(constraint))
  } catch (error) {
    throw asGrammarError(error)
  }
}

function written(constraint: Constraint): string {
  const rules = new Rules()
  switch (constraint.kind) {
    case 'schema':
      return rules.text(schemaBody(constraint.schema, rules))
    case 'regex':
      return rules.text(regexBody(constraint.pattern, { written: 'text', whole: true }))
    case 'choice': {
      const { choices } = constraint
      if (choices.length === 0 || choices.length > MAX_CHOICES) {
        throw new GrammarError(`${choices.length} choices are not in 1 to ${MAX_CHOICES}`)
      }
      return rules.text(either(each(choices, literal)))
    }
    case 'grammar':
      return constraint.text
    case 'calls':
      return rules.text(callsBody(constraint, rules))
  }
}

function callsBody({ tools, parallel }: Extract<Constraint, { kind: 'calls' }>, rules: Rules): string {
  if (tools.length === 0) throw new GrammarError('there is no tool to be called')
  const calls = tools.map(({ name, parameters = { type: 'object' } }) => {
    const head = `"{" ${BLANK} ${jsonEntry(jsonLiteral('name'), jsonLiteral(name))} ${BLANK} "," ${BLANK}`
    const values = rules.add('arguments', argumentsBody(parameters, rules))
    return `${head} ${jsonEntry(jsonLiteral('arguments'), values)} ${BLANK} "}"`
  })
  const call = rules.add('call', either(calls))
  return parallel ? either([call, jsonArray(call, 1, MAX_CALLS)]) : call
}

/** Arguments are an object, whatever their schema says besides. Definitions of tools say more than a grammar can hold; what it cannot is the model's to keep to, as without a grammar. */
function argumentsBody(parameters: unknown, rules: Rules): string {
  const trial = new Rules()
  try {
    objectBody(parameters, trial)
  } catch {
    // Whatever is strange about them: any arguments then.
    return jsonMap(jsonString(rules), jsonValue(rules))
  }
  return objectBody(parameters, rules)
}

function limited(text: string): string {
  checkLength(text.length)
  return text
}
