import { describe, expect, it } from 'vitest'
import { compileJinja } from '../../models/tokenizer/jinja/template.ts'
import golden from '../fixtures/jinja-cases.json' with { type: 'json' }

const MAX_CHARACTERS = 100_000

const render = (template: string, values: Record<string, unknown> = golden.values) =>
  compileJinja(template).render(values, MAX_CHARACTERS)

describe('templates', () => {
  it.each(golden.cases.map(({ template, text }) => [template, text]))(
    '%j is rendered as by Python',
    (template, text) => {
      expect(render(template)).toBe(text)
    }
  )

  it('a test takes all of its argument, with parentheses or without', () => {
    const values = { message: { parts: [{ kinds: ['text', 'tool'] }] }, n: 6 }
    const text =
      "{{ 'text' is in message.parts[0].kinds }} {{ 'x' is in message.parts[0]['kinds'] }} {{ n is divisibleby 3 and n > 5 }}"
    expect(render(text, values)).toBe('True False True')
  })

  it.each(golden.refused)('%j is refused, as by Python', template => {
    expect(() => render(template)).toThrow()
  })
})
