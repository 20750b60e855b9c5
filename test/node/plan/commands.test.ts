import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '..', '..', '..')
const scenario = (name: string): string => join(root, 'test', 'scenarios', `${name}.json`)
let folder: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'edgeshard-plan-'))
})
afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
})

function edgeshard(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(root, 'node', 'cli', 'edgeshard.mjs'), ...args],
    { encoding: 'utf8' }
  )
  return { status, stdout, stderr }
}

function file(name: string, content: string): string {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

describe('edgeshard plan', () => {
  it('prints every method beside each other', () => {
    const { status, stdout } = edgeshard('plan', '--scenario', scenario('llama2-7b-1mbps'), '--compare')
    expect(status).toBe(0)
    expect(stdout).toMatch(/^edgeshard +60\.4 +0 +optimal/m)
    expect(stdout).toMatch(/^edge-solo +140\.4 /m)
    expect(stdout).toMatch(/^cloud-edge-even +227\.5 /m)
    expect(stdout).toMatch(/^cloud-edge-opt +140\.4 /m)
    expect(stdout).toMatch(/^edgeshard-even +279\.8 /m)
    expect(stdout).toMatch(/^paper-dp +68\.0 /m)
  })

  it('says what a token takes with guesses ahead', () => {
    const path = scenario('llama2-7b-1mbps')
    const guessed = edgeshard('plan', '--scenario', path, '--guesses-right', '80')
    expect(guessed.stdout).toMatch(/time per token [\d.]+ ms with guesses of which 80\.0 % are right/)
    const { predicted } = JSON.parse(
      edgeshard('plan', '--scenario', path, '--guesses-right', '80', '--json').stdout
    )
    expect(predicted.speculatedTpotMs).toBeLessThanOrEqual(predicted.tpotMs)
    expect(edgeshard('plan', '--scenario', path, '--guesses-right', '101').status).toBe(2)
  })

  it('prints one JSON document that keeps the contract', () => {
    const path = scenario('llama2-13b-10mbps')
    const { status, stdout } = edgeshard('plan', '--scenario', path, '--objective', 'throughput', '--json')
    expect(status).toBe(0)
    const result = JSON.parse(stdout)
    expect(result).toMatchObject({
      feasible: true,
      objective: 'throughput',
      method: 'edgeshard',
      batch: 8,
      optimal: true,
      gap: 0
    })
    expect(Object.keys(result.predicted)).toEqual(
      expect.arrayContaining(['tpotMs', 'ttftMs', 'requestMs', 'tokensPerSecond'])
    )
    expect(result.lowerBoundMs).toBeCloseTo(1000 / result.predicted.tokensPerSecond, 9)
    const used = new Set(result.stages.map(({ device }: { device: string }) => device))
    expect(result.left.length + used.size).toBe(15)
    for (const { reason } of result.left) expect(reason).not.toBe('')
  })

  it('explains in a table, with the pipeline, what binds and what would help', () => {
    const { stdout } = edgeshard('plan', '--scenario', scenario('llama2-7b-1mbps'))
    expect(stdout).toContain('optimal, gap 0')
    expect(stdout).toMatch(/rtx +\[3, 34\) +27\.6 ms/)
    expect(stdout).toMatch(/memory of rtx: with 776\.0 MiB more on rtx 57\.0 ms a token instead of 60\.4/)
    expect(stdout).toContain('What would help most: 776.0 MiB more on rtx')
    expect(stdout).toMatch(/nx-0: every plan with it takes at least 64\.7 ms a token, 4\.3 ms more/)
  })

  it('draws a picture', () => {
    const path = join(folder, 'plan.svg')
    expect(edgeshard('plan', '--scenario', scenario('llama2-7b-1mbps'), '--svg', path).status).toBe(0)
    const svg = readFileSync(path, 'utf8')
    expect(svg.startsWith('<svg xmlns="http://www.w3.org/2000/svg"')).toBe(true)
    for (const part of ['agx-0', 'agx-1', 'rtx', '[3, 34)', '50 Mbps']) expect(svg).toContain(part)
  })

  it('takes the cloud device from the command line', () => {
    const path = scenario('llama2-7b-1mbps')
    const args = ['plan', '--scenario', path, '--method', 'cloud-edge-opt', '--cloud', 'agx-1', '--json']
    const { stdout } = edgeshard(...args)
    expect(JSON.parse(stdout).feasible).toBe(true)
    const unknown = edgeshard('plan', '--scenario', path, '--cloud', 'nobody')
    expect([unknown.status, unknown.stdout]).toEqual([2, ''])
    expect(unknown.stderr).toContain('"nobody" is not a device')
  })

  it('infeasible is status 3 with the JSON and one line', () => {
    const path = scenario('llama2-70b-1mbps')
    const { status, stdout, stderr } = edgeshard(
      'plan',
      '--scenario',
      path,
      '--method',
      'edge-solo',
      '--json'
    )
    expect(status).toBe(3)
    expect(JSON.parse(stdout)).toMatchObject({ feasible: false, method: 'edge-solo' })
    expect(stderr).toBe('edgeshard: out of memory: agx-0 needs 256.8 GiB, has 29.0 GiB\n')
  })

  it('compare is status 0 while any method fits, 3 when none does', () => {
    expect(edgeshard('plan', '--scenario', scenario('llama2-70b-1mbps'), '--compare').status).toBe(0)
    const small = JSON.parse(readFileSync(scenario('llama2-70b-1mbps'), 'utf8'))
    small.devices = small.devices.filter(({ id }: { id: string }) => ['agx-0', 'rtx'].includes(id))
    const none = edgeshard(
      'plan',
      '--scenario',
      file('small.json', JSON.stringify(small)),
      '--compare',
      '--json'
    )
    expect(none.status).toBe(3)
    expect(JSON.parse(none.stdout).methods).toHaveLength(6)
    expect(none.stderr).toMatch(
      /^edgeshard: the model fits nowhere: it needs 256\.8 GiB with room for \d+ tokens, the mesh offers 52\.7 GiB; the largest layer needs 3\.2 GiB/
    )
  })

  it.each([
    ['a file that is not there', ['--scenario', 'nowhere.json']],
    ['a folder', ['--scenario', '.']],
    ['an unknown method', ['--scenario', 'x', '--method', 'magic']],
    ['an unknown option', ['--scenarios', 'x']]
  ])('%s is status 2 and one line', (_, args) => {
    const { status, stdout, stderr } = edgeshard('plan', ...args)
    expect([status, stdout]).toEqual([2, ''])
    expect(stderr).not.toMatch(/\n +at /)
    expect(stderr.length).toBeGreaterThan(10)
  })

  it.each([
    ['not JSON', '{ "devices": [NaN] }'],
    ['nothing', ''],
    ['nested without end', '['.repeat(200_000)],
    ['a number', '1e999'],
    ['a prototype', '{"__proto__": {"devices": []}}']
  ])('a file with %s is status 2 and one line', (_, content) => {
    const { status, stdout, stderr } = edgeshard('plan', '--scenario', file('bad.json', content))
    expect([status, stdout]).toEqual([2, ''])
    expect(stderr.split('\n')).toHaveLength(2)
  })
})

describe('edgeshard simulate', () => {
  it('prints predicted beside observed and how busy everything was', () => {
    const path = scenario('simulate-head-and-tail')
    const { status, stdout } = edgeshard('simulate', '--scenario', path, '--json')
    expect(status).toBe(0)
    const report = JSON.parse(stdout)
    for (const strategy of ['noBubble', 'bubble']) {
      const { predicted, observed } = report[strategy]
      expect(Object.keys(predicted)).toEqual(['tpotMs', 'tokensPerSecond'])
      expect(observed.busy.length).toBeGreaterThan(3)
      expect(observed.tokensPerSecond).toBeGreaterThan(0)
    }
    const text = execFileSync(
      process.execPath,
      [join(root, 'node', 'cli', 'edgeshard.mjs'), 'simulate', '--scenario', path],
      { encoding: 'utf8' }
    )
    expect(text).toMatch(/tokens\/s, steady +80\.65 +\d\d\.\d\d/)
  })

  it('infeasible is status 3', () => {
    const path = scenario('llama2-70b-1mbps')
    const { status, stdout } = edgeshard('simulate', '--scenario', path, '--method', 'edge-solo', '--json')
    expect(status).toBe(3)
    expect(JSON.parse(stdout).feasible).toBe(false)
  })
})
