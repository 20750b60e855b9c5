import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import widthOf from 'string-width'
import { expect, test } from 'vitest'
import { supported } from '../../../models/import/supported.ts'
import type { MembershipState, MeshState } from '../../../node/api.ts'
import { renderBench } from '../../../node/bench/table.ts'
import { findingsTable } from '../../../node/cli/commands/doctor.ts'
import { devicesTable } from '../../../node/cli/commands/mesh.ts'
import { linksTable, peersTable } from '../../../node/cli/commands/peers.ts'
import { privacyTable } from '../../../node/cli/commands/privacy.ts'
import { stepTable } from '../../../node/cli/step-table.ts'
import { supportedText } from '../../../node/cli/supported.ts'
import { compare, parseScenario, plan } from '../../../node/plan/index.ts'
import { renderComparison, renderPlan, renderSimulation } from '../../../node/plan/render.ts'
import { simulatePlan } from '../../../node/plan/simulation-report.ts'
import { shortIds, shortNames, withNames } from '../../../node/short-names.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'
import { measuredRow, refusedRow, report } from '../bench/rows.ts'
import { fakeNode, RESULT } from '../http/fake-node.ts'

const ROOT = join(import.meta.dirname, '..', '..', '..')
const [DESK, ONE, OTHER] = ['desk', 'one', 'other'].map(peerIdOf) as [string, string, string]
/** Two devices of one name, as a factory has them. */
const TWINS = [
  { peerId: ONE, name: 'press-line-controller' },
  { peerId: OTHER, name: 'press-line-controller' }
]

const problem = parseScenario(
  JSON.parse(readFileSync(join(ROOT, 'test', 'scenarios', 'llama2-7b-1mbps.json'), 'utf8'))
)
const throughput = {
  ...problem,
  objective: 'throughput' as const,
  workload: { ...problem.workload, batch: { min: 8, max: 8 } }
}
const planned = plan(problem, {})
if (!planned.feasible) throw new Error(planned.reason)
const results = compare(throughput, {})

function mesh(): MeshState {
  const state = fakeNode().mesh()
  const self = { ...state.self, peerId: DESK }
  const peers = TWINS.map(({ peerId, name }) => ({
    ...state.self,
    peerId,
    name,
    leases: [{ modelId: 'a'.repeat(64), layers: [3, 6] as [number, number], source: ONE, idle: false }],
    state: 'incompatible' as const,
    reason: 'it speaks an older stage protocol: update press-line-controller to this version',
    connected: true,
    suspect: false,
    rttMs: 0.4,
    lastSeenMs: 10
  }))
  const links = TWINS.map(({ peerId }) => ({
    from: DESK,
    to: peerId,
    mbps: 940,
    rttMs: 0.4,
    spread: 0,
    ageMs: 0
  }))
  const unreached = [
    { peerId: OTHER, name: 'hall-7', knownFrom: [ONE], addresses: ['/ip4/192.0.2.7/tcp/7446'] }
  ]
  return { ...state, self, peers, links, unreached }
}

const membership: MembershipState = {
  mesh: 'm',
  isIn: true,
  banned: [],
  devices: TWINS.map(device => ({
    ...device,
    self: false,
    founder: true,
    owner: true,
    admittedBy: TWINS,
    dependents: []
  }))
}

const stages = [...TWINS, TWINS[0]!].map((device, i) => ({
  ...device,
  layers: [3 * i, 3 * i + 3] as [number, number],
  computeMs: 5,
  waitMs: 0,
  busy: 0.25
}))
const rows = [
  measuredRow({ stages }),
  measuredRow({
    stages,
    objective: 'throughput',
    strategy: 'no-bubble',
    batch: 32,
    microBatches: 4,
    largest: true
  }),
  { ...refusedRow, reason: 'out of memory: press-line-controller needs 7.0 GiB and has 4.0 GiB of them free' }
]

const answer = {
  ...RESULT,
  plan: { stages: stages.map(({ peerId, name, layers }) => ({ peerId, name, layers, weightBytes: 1 })) },
  measured: { ...RESULT.measured, stages, linksMs: [1, 2, 3] }
}

const privacy = {
  fitTokens: 6000,
  testTokens: 2000,
  guessing: 0.05,
  rows: [0, 1, 8].map(decoderLayers => ({ decoderLayers, computeMs: 0.5, nearest: 0.01, fitted: 0.9 }))
}

const TABLES: Record<string, (columns: number | undefined) => string> = {
  peers: columns => peersTable(mesh(), columns),
  'peers --links': columns => linksTable(mesh(), columns),
  'mesh devices': columns => devicesTable(membership, columns),
  plan: columns => renderPlan(problem, planned, columns),
  'plan --compare': columns => renderComparison(throughput, results, columns),
  simulate: columns => renderSimulation(simulatePlan(problem, planned), columns),
  bench: columns => renderBench(report(rows), columns),
  'run --explain': columns => stepTable(answer, columns),
  'models --supported': columns => supportedText(supported(), columns),
  privacy: columns => privacyTable('tiny', privacy as Parameters<typeof privacyTable>[1], columns),
  doctor: columns =>
    findingsTable(
      [
        {
          level: 'problem',
          check: 'multicast',
          found: 'nobody answers '.repeat(6),
          advice: 'open UDP port 5353'
        }
      ],
      columns
    )
}

test.each(Object.entries(TABLES))(
  'what %s prints fits 80 and 40 columns, and leaves out no figure and no name',
  (_, text) => {
    const figures = [...new Set(text(undefined).match(/[\p{L}\d./-]*(?:\d|press-line)[\p{L}\d./-]*/gu))]
    expect(figures.length).toBeGreaterThan(0)
    for (const columns of [80, 40]) {
      const narrow = text(columns)
      expect(Math.max(...narrow.split('\n').map(line => line.length))).toBeLessThanOrEqual(columns)
      // What is too long for a line is cut there.
      const whole = narrow.replaceAll(/\s+/g, '')
      expect(figures.filter(figure => !whole.includes(figure))).toEqual([])
    }
  }
)

test('a device that is alone has no links, and no table of them', () => {
  const { peers: _, ...alone } = mesh()
  expect(linksTable({ ...alone, peers: [] }, 80)).toBe('There are no links: no other device is connected.')
})

test('a word that is longer than its column goes on in the next line of the cell', () => {
  const path = `/home/${'x'.repeat(90)}/edgeshard`
  const text = findingsTable([{ level: 'ok', check: 'home', found: `${path} belongs to a mesh` }], undefined)
  expect(text).not.toContain('…')
  const found = text.split('\n').map(line => line.split('│')[3]?.trim() ?? '')
  expect(found.join('')).toContain(path)
})

test.each(['peers', 'peers --links', 'mesh devices', 'bench', 'run --explain'])(
  '%s tells two devices of one name apart',
  name => {
    const ids = shortIds([DESK, ONE, OTHER])
    for (const columns of [undefined, 80, 40]) {
      const text = TABLES[name]!(columns)
      expect(text).toContain(ids.get(ONE))
      expect(text).toContain(ids.get(OTHER))
    }
  }
)

test('no two devices are called the same, whatever they call themselves', () => {
  const end = ONE.slice(-8)
  const impostor = { peerId: DESK, name: `press-line-controller ...${end}` }
  const names = shortNames([...TWINS, impostor])
  expect(new Set(names.values()).size).toBe(3)
  expect(shortNames([TWINS[0]!, TWINS[0]!]).get(ONE)).toBe('press-line-controller')
})

test('what a device is called is never taken for the id of another one', () => {
  const impostor = { peerId: DESK, name: ONE }
  const names = shortNames([impostor, TWINS[0]!])
  const text = withNames(`${DESK} is not used: ${ONE} is faster`, names)
  expect(text).toBe(`${ONE} is not used: press-line-controller is faster`)
  // Ids of a scenario may begin alike.
  const short = new Map([
    ['d1', 'desk'],
    ['d10', 'd1']
  ])
  expect(withNames('d10 > d1 (1 + 1)', short)).toBe('d1 > desk (1 + 1)')
})

test('a device whose CPU computes beside its GPU has both memories in a cell', () => {
  const state = mesh()
  const self = {
    ...state.self,
    memory: { budgetBytes: 6 * 2 ** 30, freeBytes: 2 ** 30 },
    processors: [
      { kind: 'cpu', name: 'a processor', used: false, memory: { budgetBytes: 2 ** 31, freeBytes: 2 ** 30 } },
      { kind: 'gpu', name: 'a card', used: true }
    ]
  }
  const cells = peersTable({ ...state, self, peers: [] }, undefined)
    .split('\n')
    .map(line => line.trim())
  const shown = ['1.0 GiB / 6.0 GiB', 'on a card', '1.0 GiB / 2.0 GiB', 'on its CPU']
  for (const text of shown) expect(cells.some(line => line.includes(text))).toBe(true)
})

test.each([
  ['wide', '\u30c7\u30b9\u30af\u30c8\u30c3\u30d7'.repeat(10)],
  ['outside the first plane', `a${'\u{1f9ee}'.repeat(31)}`],
  ['of many marks', 'a\u0301\u0302\u0303'.repeat(16)],
  ['one character for people', '\u1100'.repeat(64)],
  ['written from the right', '\u05d0\u05d1\u202e'.repeat(21)]
])('names that are %s fit as well, and are cut between characters', (_, name) => {
  const state = mesh()
  const named = {
    ...state,
    self: { ...state.self, name },
    peers: state.peers.map(peer => ({ ...peer, name }))
  }
  for (const columns of [40, 200]) {
    for (const text of [peersTable(named, columns), linksTable(named, columns)]) {
      const tooWide = text.split('\n').filter(line => widthOf(line) > columns)
      // What is one character cannot be cut.
      expect(tooWide.filter(line => !/^ *\u1100+$/.test(line))).toEqual([])
      expect(text.isWellFormed()).toBe(true)
      expect(text).not.toContain('\u202e')
    }
  }
})

test('peers says of a device without a connection that it is heard of or out of reach, and of no silence', () => {
  const state = mesh()
  const shown = (seen: Partial<(typeof state.peers)[number]>) =>
    peersTable({ ...state, peers: [{ ...state.peers[0]!, draining: false, ...seen }] }, undefined)
  expect(shown({ state: 'connected', direct: false })).toContain('heard of')
  expect(shown({ state: 'suspect', suspect: true, direct: false })).toContain('out of reach')
  expect(shown({ state: 'suspect', suspect: true, direct: true, lastSeenMs: 4000 })).toContain('silent for')
})

test('every table is made where it is made to fit', () => {
  const files = readdirSync(join(ROOT, 'node'), { recursive: true, encoding: 'utf8' }).filter(path =>
    path.endsWith('.ts')
  )
  const makers = files.filter(path =>
    readFileSync(join(ROOT, 'node', path), 'utf8').includes("from 'cli-table3'")
  )
  expect(makers).toEqual(['table.ts'])
})
