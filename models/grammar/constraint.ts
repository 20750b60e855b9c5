import { GrammarError } from './errors.ts'
import { schemaBody } from './json-schema.ts'
import { regexBody } from './regex.ts'
import { either, literal, MAX_GRAMMAR_CHARS, Rules } from './rules.ts'

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

const MAX_CHOICES = 4096

/** A constraint as a grammar in EBNF. @throws {GrammarError} where it cannot be one */
export function grammarOf(constraint: Constraint): string {
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
      return limited(rules.text(either(choices.map(literal))))
    }
    case 'grammar':
      return limited(constraint.text)
  }
}

function limited(text: string): string {
  if (text.length <= MAX_GRAMMAR_CHARS) return text
  throw new GrammarError(`a grammar of ${text.length} characters is longer than ${MAX_GRAMMAR_CHARS}`)
}
