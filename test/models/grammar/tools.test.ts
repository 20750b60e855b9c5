import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, expect, test } from 'vitest'
import { Grammars } from '../../../models/grammar/grammars.ts'
import type { ReplyPart } from '../../../models/reply/parts.ts'
import { ReplyReader } from '../../../models/reply/reader.ts'
import type { ToolDefinition } from '../../../node/api.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { randomTools } from '../../fixtures/random-tools.ts'
import { nonsenseOf } from '../../fixtures/walk-grammar.ts'
import { Random } from '../../protocols/mutate.ts'

const DEFINITIONS = Number(process.env.EDGESHARD_TOOLS ?? 24)
const deadlines = { startMs: deadlineMs(30_000), compileMs: deadlineMs(5000), maskMs: deadlineMs(5000) }
const grammars = new Grammars({ deadlines })
afterAll(() => grammars.close())

/** What a reply is, as answers of any model are read that have to call a tool. */
function callsIn(text: string, tools: readonly ToolDefinition[]) {
  const definitions = new Map(tools.map(({ name, parameters }) => [name, parameters]))
  const syntax = { calls: 'json' as const, thoughts: undefined }
  const reader = new ReplyReader({ syntax, tools: definitions, isThinking: false })
  const parts: ReplyPart[] = [...reader.push(text), ...reader.end()]
  const calls = parts.flatMap(part => (part.kind === 'call' ? [{ name: part.name, text: '' }] : []))
  for (const part of parts) if (part.kind === 'arguments') calls[part.index]!.text += part.text
  const kinds = new Set(parts.map(({ kind }) => kind))
  return { calls, kinds }
}

test(`calls of ${DEFINITIONS} random definitions that have to be made are read, and each schema takes its arguments`, {
  timeout: 0
}, async () => {
  const ajv = new Ajv2020({
    strict: false,
    validateFormats: false,
    validateSchema: false,
    addUsedSchema: false
  })
  let ended = 0
  let several = 0
  for (let seed = 0; seed < DEFINITIONS; seed++) {
    const random = new Random(seed)
    const all = randomTools(random)
    // Required, with others beside it or not, or one by its name.
    const way = random.below(3)
    const tools = way === 2 ? [random.pick(all)] : all
    const text = await nonsenseOf(grammars, { kind: 'calls', tools, parallel: way === 1 }, random)
    if (text === undefined) continue
    ended++
    const about = `${seed}: ${JSON.stringify(tools)}: ${text}`
    const { calls, kinds } = callsIn(text, tools)
    expect([...kinds].sort(), about).toEqual(['arguments', 'call', 'called'])
    if (way !== 1) expect(calls, about).toHaveLength(1)
    several += calls.length > 1 ? 1 : 0
    for (const call of calls) {
      const tool = tools.find(({ name }) => name === call.name)
      expect(tool, about).toBeDefined()
      const given: unknown = JSON.parse(call.text)
      expect(typeof given === 'object' && given !== null && !Array.isArray(given), about).toBe(true)
      const { $schema: _, ...schema } = tool!.parameters ?? {}
      const isTaken = ajv.validate(schema, given)
      expect(isTaken, `${about}: ${ajv.errorsText()}`).toBe(true)
    }
  }
  expect(ended).toBeGreaterThan(DEFINITIONS * 0.9)
  expect(several).toBeGreaterThan(0)
})
