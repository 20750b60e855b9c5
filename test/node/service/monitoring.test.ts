import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { GenerateEvent } from '../../../node/api.ts'
import { ERROR_OUTCOMES } from '../../../node/error-codes.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { ANSWER, fakeNode, replay } from '../http/fake-node.ts'

const fileOf = (name: string) =>
  fileURLToPath(new URL(`../../../node/service/files/${name}`, import.meta.url))
const RULES = fileOf('alerts.yml')

interface Dashboard {
  panels: { title: string; targets: { expr: string }[] }[]
  templating: { list: { name: string; query: string | { query: string } }[] }
}

const dashboard = JSON.parse(readFileSync(fileOf('grafana-dashboard.json'), 'utf8')) as Dashboard
const alerts = [...readFileSync(RULES, 'utf8').matchAll(/alert: (\w+)\n +expr: (.+)$/gm)].map(
  ([, name, expr]) => [name!, expr!] as const
)
const panels = dashboard.panels.flatMap(({ title, targets }) =>
  targets.map(({ expr }) => [title, expr] as const)
)
const variables = dashboard.templating.list.flatMap(({ name, query }) =>
  typeof query === 'string' ? [] : [[name, query.query] as const]
)
const ALL = [...alerts, ...panels, ...variables]

/** What Prometheus adds to every sample. */
const ADDED = ['instance', 'job']
/** Values that a label can have, where there are only so many. */
const VALUES: Record<string, readonly string[]> = {
  outcome: [...Object.keys(ERROR_OUTCOMES), 'stop', 'length', 'tool_calls', 'error', 'cancelled'],
  cause: ['draining', 'disconnected', 'silent', 'connected']
}

let server: HttpServer
/** Label names of each sample that a node's /metrics has, by the sample's name. */
const exported = new Map<string, Set<string>>()
beforeAll(async () => {
  const spent = { detectMs: 1, planMs: 1, recruitMs: 1, rebuildMs: 1 }
  const events: GenerateEvent[] = [
    ...ANSWER.slice(0, -1),
    { type: 'recovery', peerId: 'p', reason: 'gone' },
    { type: 'recovered', peerId: 'p', spent },
    ...ANSWER.slice(-1)
  ]
  server = await startHttpServer({ node: fakeNode(() => replay(events)), host: '127.0.0.1', port: 0 })
  const body = JSON.stringify({ messages: [{ role: 'user', content: 'hi' }] })
  await (await fetch(`${server.url}/v1/chat/completions`, { method: 'POST', body })).text()
  const text = await (await fetch(`${server.url}/metrics`)).text()
  for (const [, name, labels = ''] of text.matchAll(/^(edgeshard_\w+)(?:\{(.*)\})? \S+$/gm)) {
    const known = exported.get(name!) ?? new Set()
    for (const [, label] of labels.matchAll(/(\w+)="/g)) known.add(label!)
    exported.set(name!, known)
  }
})
afterAll(() => server.stop())

/** Metrics that an expression asks for, each with the labels by which it chooses. */
function selectors(expr: string): { name: string; labels: string[] }[] {
  return [...expr.matchAll(/\b(edgeshard_\w+)(?:\{([^}]*)\})?/g)].map(([, name, chosen = '']) => ({
    name: name!,
    labels: [...chosen.matchAll(/(\w+)(?:=~|!=|!~|=)/g)].map(([, label]) => label!)
  }))
}

test('there are alerts and panels to check', () => {
  expect(alerts.length).toBe(readFileSync(RULES, 'utf8').match(/alert:/g)!.length)
  expect(alerts.length).toBeGreaterThan(5)
  expect(panels.length).toBeGreaterThan(15)
})

describe.each(ALL)('%s: %s', (_, expr) => {
  test('asks for what a node exports, by labels that it has', () => {
    const asked = selectors(expr)
    if (asked.length === 0) expect(expr).toMatch(/^up\{/)
    for (const { name, labels } of asked) {
      expect([...exported.keys()]).toContain(name)
      const own = [...exported.get(name)!, ...ADDED]
      for (const label of labels) expect(own, name).toContain(label)
      for (const [, grouped] of expr.matchAll(/by \(([^)]*)\)/g)) {
        for (const label of grouped!.split(/, */)) expect(own, name).toContain(label)
      }
    }
  })

  test('names values that a label can have', () => {
    for (const [, label, values] of expr.matchAll(/(\w+)(?:=~|!=|=)"([^"$]*)"/g)) {
      const known = VALUES[label!]
      if (known !== undefined) expect(known).toEqual(expect.arrayContaining(values!.split('|')))
    }
  })
})

test('every alert says in a sentence what is wrong', () => {
  const summaries = [...readFileSync(RULES, 'utf8').matchAll(/summary: "(.+)"/g)].map(([, text]) => text!)
  expect(summaries).toHaveLength(alerts.length)
  for (const summary of summaries) expect(summary).toMatch(/\$labels\.instance.*\.$/)
})

const promtool = spawnSync('promtool', ['--version']).error === undefined
test.skipIf(!promtool)('promtool takes the rules, where it is installed (the package prometheus)', () => {
  const { status, stdout } = spawnSync('promtool', ['check', 'rules', RULES], { encoding: 'utf8' })
  expect({ status, stdout }).toEqual({ status: 0, stdout: expect.stringContaining('SUCCESS') })
})
