import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { printPrivacyCurve } from '../../../node/cli/privacy-curve.ts'
import { parseScenario, type ScenarioInput } from '../../../node/plan/index.ts'
import { type CurveRow, privacyCurve } from '../../../node/privacy/curve.ts'
import { renderCurve } from '../../../node/privacy/curve-text.ts'
import { TEXT } from '../../../node/privacy/text.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { deadlineMs } from '../../fixtures/machine.ts'

const MAIN = join(import.meta.dirname, '..', '..', '..', 'node', 'cli', 'main.ts')

/** A source ten times as slow as the other device; each decoder layer that it keeps costs 9 ms more. */
function scenario({ sourceBytes = 100, otherBytes = 100 } = {}): ScenarioInput {
  const link = { mbps: 1000, latencyMs: 1 }
  return {
    devices: [
      { id: 'desk', memoryBytes: sourceBytes, profile: 'slow' },
      { id: 'laptop', memoryBytes: otherBytes, profile: 'fast' }
    ],
    source: 'desk',
    links: { default: link },
    model: {
      name: 'edgeshard-tiny',
      layers: [
        { kind: 'embedding', weightBytes: 1, activationBytes: 0 },
        { kind: 'decoder', count: 8, weightBytes: 10, activationBytes: 0 },
        { kind: 'head', weightBytes: 1, activationBytes: 0 }
      ]
    },
    profiles: {
      slow: { decoder: { decodeMs: 10 }, head: { decodeMs: 10 } },
      fast: { decoder: { decodeMs: 1 }, head: { decodeMs: 1 } }
    },
    workload: { promptTokens: 8, newTokens: 8, batch: 1, contextTokens: 16 }
  }
}

const MEASURED = {
  fitTokens: 4096,
  testTokens: 1000,
  rows: [
    { decoderLayers: 0, computeMs: 1, nearest: 1, fitted: 1 },
    { decoderLayers: 1, computeMs: 2, nearest: 0.02, fitted: 0.967 },
    { decoderLayers: 4, computeMs: 5, nearest: 0.01, fitted: 0.9 },
    { decoderLayers: 8, computeMs: 9, nearest: 0.01, fitted: 0.65 }
  ]
}

const figures = ({
  layersAtSource,
  sealed,
  recoveredNearest,
  recoveredInverter,
  tpotMs,
  plannedAtSource
}: CurveRow) => [
  ...[layersAtSource, sealed, recoveredNearest, recoveredInverter],
  ...[tpotMs === null ? null : Math.round(tpotMs), plannedAtSource]
]

describe('the privacy curve', () => {
  test('has what is told of a prompt beside what the best plan takes, with the head anywhere and here', () => {
    expect(privacyCurve(MEASURED, parseScenario(scenario())).map(figures)).toEqual([
      [0, false, 1, 1, 11, 0],
      [1, false, 0.02, 0.967, 20, 1],
      [1, true, 0.02, 0.967, 29, 1],
      [4, false, 0.01, 0.9, 47, 4],
      [4, true, 0.01, 0.9, 56, 4],
      [8, false, 0.01, 0.65, 83, 8],
      [8, true, 0.01, 0.65, 90, 8]
    ])
  })

  test('says what a plan keeps more than it has to, where nothing fits, and where nobody is told anything', () => {
    const lean = privacyCurve(MEASURED, parseScenario(scenario({ sourceBytes: 50, otherBytes: 61 })))
    // The other device holds at most 6 decoder layers without the head, 5 with it.
    expect(lean.filter(({ sealed }) => !sealed).map(({ plannedAtSource }) => plannedAtSource)).toEqual([
      2,
      2,
      4,
      null
    ])
    expect(lean.at(-1)).toMatchObject({
      tpotMs: null,
      plan: { feasible: false, reason: expect.stringContaining('with layers [0, 9) there') }
    })
    const text = renderCurve('tiny', MEASURED, lean)
    expect(text).toMatch(/^embedding +100\.0 % .* 100\.0 % .* 2, 96\.7 %$/m)
    expect(text).toMatch(/^1 of 8 .* 2, 96\.7 %$/m)
    // It keeps what it has to: what is told stands in the row.
    expect(text).toMatch(/^4 of 8 .* 4$/m)
    expect(text).toMatch(/^8 of 8 .* fits nowhere +fits nowhere$/m)
    const alone = privacyCurve(MEASURED, parseScenario(scenario({ otherBytes: 0 })))
    expect(renderCurve('tiny', MEASURED, alone)).toMatch(/^1 of 8 .* all: nobody sees anything$/m)
  })

  test('is drawn with bars of one length at most, and fits the terminal', () => {
    const rows = privacyCurve(MEASURED, parseScenario(scenario()))
    const wide = renderCurve('tiny', MEASURED, rows)
    expect(wide).toMatch(/^embedding +100\.0 % +#{16} 100\.0 % +##\.{14} 11\.0 ms/m)
    expect(wide).toMatch(/^8 of 8 +1\.0 % +#{10}\.{6} 65\.0 % +#{15}\. 83\.0 ms +90\.0 ms/m)
    for (const columns of [80, 40]) {
      const text = renderCurve('tiny', MEASURED, rows, columns)
      expect(Math.max(...text.split('\n').map(line => line.length))).toBeLessThanOrEqual(columns)
      for (const figure of ['96.7 %', '20.0 ms', '29.0 ms', '83.0 ms']) expect(text).toContain(figure)
    }
  })
})

test('plan --privacy-curve measures the model that is planned', { timeout: deadlineMs(60_000) }, async () => {
  await using folder = await temporaryFolder()
  const write = (name: string, text: string) => {
    writeFileSync(join(folder.path, name), text)
    return join(folder.path, name)
  }
  const text = write('text.txt', TEXT.slice(0, 20).join('\n\n'))
  const file = write('scenario.json', JSON.stringify(scenario()))
  const args = [
    '--scenario',
    file,
    '--text',
    text,
    '--threads',
    '1',
    '--home',
    join(folder.path, 'home'),
    '--json'
  ]
  const { stdout, stderr } = spawnSync(process.execPath, [MAIN, 'plan', '--privacy-curve', ...args], {
    encoding: 'utf8'
  })
  expect(stderr).toBe('')
  const { model, rows } = JSON.parse(stdout) as { model: string; rows: CurveRow[] }
  expect(model).toBe('edgeshard-tiny')
  expect(rows.map(({ layersAtSource, sealed }) => [layersAtSource, sealed])).toEqual([
    [0, false],
    ...[1, 2, 4, 8].flatMap(layers => [
      [layers, false],
      [layers, true]
    ])
  ])
  expect(rows[0]).toMatchObject({ recoveredNearest: 1, recoveredInverter: 1, tpotMs: 11 })
})

test('plan --privacy-curve refuses a model that is not here, or that has other layers', async () => {
  await using folder = await temporaryFolder()
  const [embedding, decoder, head] = scenario().model.layers
  const layers = [embedding!, { ...decoder!, count: 4 }, head!]
  const problem = parseScenario({ ...scenario(), model: { name: 'mine', layers } })
  const options = { text: undefined, threads: 1, home: folder.path, budgetMs: 1000, json: true }
  const refused = (name: string) => printPrivacyCurve({ name, layers }, problem, options)
  await expect(refused('mine')).rejects.toMatchObject({
    name: 'InputError',
    message: expect.stringContaining('this device has no model "mine"')
  })
  await expect(refused('edgeshard-tiny')).rejects.toMatchObject({
    name: 'InputError',
    message: expect.stringContaining('8 decoder layers, and what is planned 4')
  })
})
