import { spawnSync } from 'node:child_process'
import { beforeAll, describe, expect, test } from 'vitest'
import type { GenerateEvent, GenerateResult } from '../../../node/api.ts'
import { StageLostError } from '../../../node/errors.ts'
import { HttpMetrics } from '../../../node/http/metrics.ts'
import { ANSWER, type FakeNode, fakeNode, MOVE, RESULT, replay } from './fake-node.ts'

const SPENT = { detectMs: 100, planMs: 20, recruitMs: 300, rebuildMs: 40 }
const LOSS: GenerateEvent[] = [
  { type: 'recovery', peerId: 'nobody knows it', reason: 'laptop died' },
  { type: 'recovered', peerId: 'nobody knows it', spent: SPENT }
]
const request = { input: { kind: 'raw' as const, text: 'Once' } }

/** Figures after answers of every kind: a recovery, an error, and one that its reader left. */
async function figures(): Promise<string> {
  const node = fakeNode(async function* ({ model }) {
    yield* replay(ANSWER.slice(0, 3))
    yield* replay(LOSS)
    if (model === 'broken') throw new StageLostError('gone', 'peer')
    yield* replay(ANSWER.slice(3))
  })
  const metrics = new HttpMetrics(node)
  await read(node)
  await read(node, 'broken').catch(() => undefined)
  const left = node.generate(request)
  await left.next()
  await left.return(undefined)
  return (await metrics.render()).text
}

test('guesses are counted by what became of them, and no prediction is measured by an answer that had them', async () => {
  const node = fakeNode(async function* () {
    yield { type: 'done', result: { ...RESULT, guesses: { sent: 9, held: 6, dropped: 3 } } }
  })
  const metrics = new HttpMetrics(node)
  await read(node)
  const { text } = await metrics.render()
  expect(text).toContain('edgeshard_guesses_total{outcome="held"} 6')
  expect(text).toContain('edgeshard_guesses_total{outcome="dropped"} 3')
  expect(text).not.toContain('edgeshard_prediction_ratio_count{figure="tpot"}')
})

test.each<[string, Partial<GenerateResult>, boolean]>([
  ['undisturbed', {}, true],
  ['that lost a device', { recoveries: 1 }, false],
  ['that went over to others', { moves: [MOVE] }, false],
  ['that others drew too', { standby: { stages: RESULT.plan.stages } }, false]
])('an answer %s measures what its plan predicted, or does not', async (_, over, isMeasured) => {
  const node = fakeNode(async function* () {
    yield { type: 'done', result: { ...RESULT, recoveries: 0, ...over } }
  })
  const metrics = new HttpMetrics(node)
  await read(node)
  const { text } = await metrics.render()
  expect(text.includes('edgeshard_prediction_ratio_count{figure="tpot"} 1')).toBe(isMeasured)
})

test('tokens of thoughts and calls are counted as those of the text are', async () => {
  const tokens = [1, 2, 3, 4, 5]
  const node = fakeNode(async function* ({ model }) {
    yield { type: 'reasoning', text: 'Hm.', tokens: [1, 2], logprobs: [] }
    if (model === 'broken') throw new StageLostError('gone', 'peer')
    yield { type: 'text', text: 'Look:', tokens: [3], logprobs: [] }
    yield { type: 'call', index: 0, id: 'call_1', name: 'clock' }
    yield { type: 'done', result: { ...RESULT, tokens } }
  })
  const metrics = new HttpMetrics(node)
  await read(node)
  await read(node, 'broken').catch(() => undefined)
  expect((await metrics.render()).text).toContain('edgeshard_generated_tokens_total 7\n')
})

test('what conversations had in KV caches is told where it is kept, and as nothing where it is not', async () => {
  const node = fakeNode()
  const { mesh } = node
  const metrics = new HttpMetrics(node)
  expect((await metrics.render()).text).toContain('edgeshard_prefix_cache_budget_bytes 0')
  const asked = { memory: 5, file: 2, gone: 1 }
  const prefixCache = { budgetBytes: 1000, heldBytes: 600, fileBytes: 300, stored: 9, asked }
  node.mesh = () => ({ ...mesh(), prefixCache })
  const { text } = await metrics.render()
  for (const line of [
    'budget_bytes 1000',
    'held_bytes 600',
    'file_bytes 300',
    'stored_total 9',
    'asked_total{kind="memory"} 5',
    'asked_total{kind="file"} 2',
    'asked_total{kind="gone"} 1'
  ])
    expect(text).toContain(`edgeshard_prefix_cache_${line}\n`)
})

async function read(node: FakeNode, model?: string): Promise<void> {
  for await (const _ of node.generate({ ...request, ...(model !== undefined && { model }) }));
}

interface Family {
  help?: string
  type?: string
  samples: { name: string; labels: string; value: number }[]
}

function families(text: string): Map<string, Family> {
  const found = new Map<string, Family>()
  const of = (name: string): Family => {
    if (!found.has(name)) found.set(name, { samples: [] })
    return found.get(name)!
  }
  for (const line of text.split('\n').filter(line => line !== '')) {
    const [, comment, about, rest] = /^# (HELP|TYPE) (\w+) (.+)$/.exec(line) ?? []
    if (comment === 'HELP') of(about!).help = rest!
    else if (comment === 'TYPE') of(about!).type = rest!
    else {
      const [, name, labels = '', value] = /^(\w+)(\{[^}]*\})? (\S+)$/.exec(line) ?? []
      expect(name, line).toBeDefined()
      const family = name!.replace(/_(bucket|sum|count)$/, '')
      of(found.has(name!) ? name! : family).samples.push({ name: name!, labels, value: Number(value) })
    }
  }
  return found
}

let text: string
beforeAll(async () => {
  text = await figures()
})

describe('the figures', () => {
  const lines = [
    'answers_total{outcome="stop"} 1',
    'answers_total{outcome="stage_lost"} 1',
    'answers_total{outcome="cancelled"} 1',
    'answers_waiting 0',
    'prompt_tokens_total 4',
    'generated_tokens_total 4',
    'recoveries_total{cause="disconnected"} 2',
    'recovery_seconds_count{phase="recruit"} 2',
    'recovery_seconds_bucket{le="0.25",phase="recruit"} 0',
    'recovery_seconds_bucket{le="0.5",phase="recruit"} 2',
    `ttft_seconds_sum ${RESULT.ttftMs / 1000}`,
    'ttft_seconds_bucket{le="0.025"} 1',
    `tpot_seconds_sum ${RESULT.tpotMs / 1000}`,
    'stage_compute_seconds_count 2',
    'hop_seconds_count 2',
    'prediction_ratio_sum{figure="ttft"} 1.25',
    'sent_bytes_total{kind="hidden"} 2048',
    `memory_budget_bytes ${2 ** 30}`,
    `memory_leased_bytes ${2 ** 29}`
  ]
  test.each(lines)('%s', line => {
    expect(text.split('\n')).toContain(`edgeshard_${line}`)
  })

  test('an answer waits until it is placed', async () => {
    const node = fakeNode()
    const metrics = new HttpMetrics(node)
    const events = node.generate(request)
    await events.next()
    expect((await metrics.render()).text).toContain('edgeshard_answers_waiting 1\n')
    await events.next()
    expect((await metrics.render()).text).toContain('edgeshard_answers_waiting 0\n')
    await events.return(undefined)
  })

  test('a server that has stopped counts no more', async () => {
    const node = fakeNode()
    const metrics = new HttpMetrics(node)
    metrics.stop()
    await read(node)
    expect((await metrics.render()).text).not.toContain('outcome="stop"')
  })
})

describe('the conventions of Prometheus', () => {
  test('are kept: names, units, types and help', () => {
    const found = families(text)
    expect(found.size).toBeGreaterThan(20)
    for (const [name, { help, type, samples }] of found) {
      expect(name).toMatch(/^edgeshard(_[a-z]+)+$/)
      expect(help, name).toMatch(/^[A-Z].*\.$/)
      expect(['counter', 'gauge', 'histogram'], name).toContain(type)
      expect(name.endsWith('_total'), `${name} is a counter if it ends in _total, and only then`).toBe(
        type === 'counter'
      )
      expect(name, 'base units').not.toMatch(/_(ms|milliseconds|us|kb|kib|mib|mb|percent|minutes)(_|$)/)
      if (type === 'histogram') expect(name, 'a unit').toMatch(/_(seconds|ratio|bytes)$/)
      for (const sample of samples) expect(sample.value, sample.name).not.toBeNaN()
    }
  })

  test('histograms count up to +Inf', () => {
    for (const [name, { type, samples }] of families(text)) {
      if (type !== 'histogram') continue
      const counts = samples.filter(sample => sample.name === `${name}_count`)
      for (const { labels, value } of counts) {
        const own = labels.replace(/[{}]/g, '')
        const buckets = samples.filter(s => s.name === `${name}_bucket` && s.labels.includes(own))
        const values = buckets.map(bucket => bucket.value)
        expect(values.toSorted((a, b) => a - b)).toEqual(values)
        expect(buckets.at(-1)).toMatchObject({ labels: expect.stringContaining('le="+Inf"'), value })
      }
    }
  })

  const promtool = spawnSync('promtool', ['--version']).error === undefined
  test.skipIf(!promtool)('pass promtool, where it is installed (the package prometheus)', () => {
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], {
      input: text,
      encoding: 'utf8'
    })
    expect({ status, said: stdout + stderr }).toEqual({ status: 0, said: '' })
  })
})
