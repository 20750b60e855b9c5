import { afterEach, expect, it } from 'vitest'
import { type LogLine, logger, logTo } from '../../../../models/log.ts'
import { ChatTemplateError } from '../../../../models/tokenizer/errors.ts'
import { Answers } from '../../../../node/answers.ts'
import type { GenerateEvent } from '../../../../node/api.ts'
import { PlanRefusedError } from '../../../../node/errors.ts'
import { RequestLog } from '../../../../node/source/request/request-log.ts'

afterEach(() => logTo({ isOn: () => false, write: () => {} }))

/** The lines that a request writes whose events are these. */
async function linesOf(
  events: () => AsyncGenerator<GenerateEvent>,
  { readers = Number.POSITIVE_INFINITY }: { readers?: number } = {}
): Promise<LogLine[]> {
  const lines: LogLine[] = []
  logTo({ isOn: () => true, write: line => void lines.push(line) })
  let read = 0
  try {
    for await (const _ of new Answers().told(events(), new RequestLog(logger('edgeshard:source').of('r')))) {
      if (++read === readers) break
    }
  } catch {
    // What the request was refused with is the reader's.
  }
  expect(lines.every(({ requestId }) => requestId === 'r')).toBe(true)
  return lines
}

const recovery: GenerateEvent = { type: 'recovery', peerId: 'p', reason: 'stage lost: b' }
const spent = { detectMs: 1, planMs: 2, recruitMs: 3, rebuildMs: 4 }

it('losses are warnings, and say what they cost when they are made good', async () => {
  const lines = await linesOf(async function* () {
    yield recovery
    yield { type: 'recovered', peerId: 'p', spent }
    throw new PlanRefusedError('nothing fits')
  })
  expect(lines).toMatchObject([
    { level: 'warn', fields: { peerId: 'p', error: 'stage lost: b' } },
    { level: 'info', message: 'recovered', fields: { peerId: 'p', ...spent } },
    { level: 'warn', message: 'request failed', fields: { code: 'infeasible', error: 'nothing fits' } }
  ])
})

it('who leaves has cancelled', async () => {
  const lines = await linesOf(
    async function* () {
      yield recovery
      yield recovery
    },
    { readers: 1 }
  )
  expect(lines.map(({ level, message }) => `${level} ${message}`)).toEqual([
    'warn a stage is lost',
    'info request cancelled'
  ])
})

it.each([
  ['a template', new ChatTemplateError('the template refuses: my secret question')],
  ['anything unknown', new TypeError('cannot read my secret question')]
])('an error of %s may quote the prompt: its words are left out, its origin is not', async (_, error) => {
  const [, line] = await linesOf(async function* () {
    yield recovery
    throw error
  })
  expect(line).toMatchObject({ message: 'request failed', fields: { name: error.name } })
  expect(JSON.stringify(line)).not.toContain('secret')
  expect(line!.fields.at).toMatch(/request-log\.test\.ts:\d+/)
})

it('what was answered has its own line elsewhere', async () => {
  const done = { type: 'done', result: { finishReason: 'stop' } } as Extract<GenerateEvent, { type: 'done' }>
  const lines = await linesOf(async function* () {
    yield done
  })
  expect(lines).toEqual([])
})
