import { useEffect, useMemo, useState } from 'preact/hooks'
import { placeName } from '../place-name.ts'
import type { Plan, Refusal } from '../plan/problem.ts'
import type { ScenarioInput } from '../plan/scenario.ts'
import { refusalText } from '../refusal-text.ts'
import { certificateOf, needsOf } from './certificate.ts'
import type { Connection } from './connection.ts'
import { COLOURS } from './devices.ts'
import { bytes, layerRange, rate, time } from './format.ts'
import { type Child, html } from './html.ts'
import { useStore } from './store.ts'
import { Strip } from './strip.ts'
import { Trials, type Tried } from './trials.ts'
import {
  ADDED_DEVICE,
  type Change,
  changed,
  linkOf,
  mbpsAt,
  memoriesOf,
  RATE_STEPS,
  stepOf,
  withTried
} from './what-if.ts'

const MIB = 1024 ** 2
/** Places of a slider for memory. */
const MEMORY_STEPS = 400
/** Of one more device, until somebody says otherwise. */
const ADDED_MBPS = 1000

/** What the exact plan would be with more memory, another link or one more device. Nothing of the mesh changes. */
export function WhatIfView({ connection }: { connection: Connection }) {
  const [scenario, setScenario] = useState<ScenarioInput>()
  const [problem, setProblem] = useState('')
  const open = async (event: Event) => {
    if (!(event.target as HTMLDetailsElement).open) return setScenario(undefined)
    try {
      setScenario(await connection.client.scenario(needsOf(connection.mesh.value?.deployments ?? [])))
      setProblem('')
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error))
    }
  }
  return html`<section aria-labelledby="what-if-title">
    <h2 id="what-if-title">What if</h2>
    <details onToggle=${open}>
      <summary>Try other memory, links or one more device</summary>
      ${problem !== '' && html`<p class="failure" role="alert">${problem}</p>`}
      ${scenario !== undefined && html`<${Trial} connection=${connection} scenario=${scenario} />`}
    </details>
  </section>`
}

function Trial({ connection, scenario }: { connection: Connection; scenario: ScenarioInput }) {
  const [changes, setChanges] = useState<readonly Change[]>([])
  const put = (change: Change) => setChanges(old => withTried(old, change))
  const asItIs = useTrials(connection, scenario, NONE)
  const trial = useTrials(connection, scenario, changes)
  // Until there is something of the trial, what is there stays.
  const { result, problem, changes: tried } = trial ?? asItIs ?? NOTHING
  const before = trial === undefined ? undefined : asItIs?.result
  return html`<div class="trial">
    <fieldset>
      <legend>Memory for stages</legend>
      ${scenario.devices.flatMap(device =>
        memoriesOf(device).map(({ processor, memoryBytes }) => {
          const { id, name } = device
          const change = changes.find(
            change => change.kind === 'memory' && change.device === id && change.processor === processor
          )
          const now = change?.kind === 'memory' ? change.memoryBytes : memoryBytes
          return html`<${MemorySlider}
            key=${`${id} ${processor}`}
            name=${placeName({ id: name ?? id, processor })}
            memoryBytes=${now}
            mostBytes=${mostOf(memoryBytes)}
            onMemory=${(bytes: number) => put({ kind: 'memory', device: id, processor, memoryBytes: bytes })}
          />`
        })
      )}
    </fieldset>
    <${LinkFields} scenario=${scenario} changes=${changes} put=${put} />
    <${DeviceFields} scenario=${scenario} changes=${changes} put=${put} onRemove=${() => setChanges(old => old.filter(({ kind }) => kind !== 'device'))} />
    <button type="button" onClick=${() => setChanges([])}>As it is</button>
    <p class="headline" role="status">${result !== undefined && headlineOf(result, before)}</p>
    ${problem !== undefined && html`<p class="failure" role="alert">${problem}</p>`}
    ${result?.feasible === true && html`<${Outcome} plan=${result} scenario=${changed(scenario, tried)} />`}
    ${result?.feasible === false && html`<p class="failure">${withNamesOf(scenario, refusalText(result))}</p>`}
  </div>`
}

const NONE: readonly Change[] = []
const NOTHING: Tried = { changes: NONE }

/** What a trial comes to, in a line: all of it that is read out. */
function headlineOf(plan: Plan | Refusal, before: Plan | Refusal | undefined): string {
  if (!plan.feasible) return 'It would fit nowhere.'
  const now = `${time(plan.predicted.tpotMs)} a token`
  return before?.feasible ? `${now} instead of ${time(before.predicted.tpotMs)}` : now
}

/** A slider with its figure beside it, which is no part of its name: that would be read out at each step. */
function Slider({
  name,
  figure,
  ...input
}: { name: Child; figure: string; value: number; onInput: (event: Event) => void } & Record<
  string,
  unknown
>) {
  return html`<label>
    ${name}<span class="figure" aria-hidden="true">${figure}</span>
    <input type="range" aria-valuetext=${figure} ...${input} />
  </label>`
}

/** The most memory that can be tried in the place of what there is, in bytes. */
function mostOf(memoryBytes: number): number {
  return Math.max(memoryBytes * 4, 16 * MIB)
}

interface MemoryProps {
  name: Child
  memoryBytes: number
  mostBytes: number
  onMemory: (bytes: number) => void
}

function MemorySlider({ name, memoryBytes, mostBytes, onMemory }: MemoryProps) {
  const onInput = (event: Event) => onMemory(Math.round(Number((event.target as HTMLInputElement).value)))
  return html`<${Slider} name=${name} figure=${bytes(memoryBytes)} min="0" max=${mostBytes} step=${mostBytes / MEMORY_STEPS} value=${memoryBytes} onInput=${onInput} />`
}

function RateSlider({ name, mbps, onRate }: { name: Child; mbps: number; onRate: (mbps: number) => void }) {
  const onInput = (event: Event) => onRate(mbpsAt(Number((event.target as HTMLInputElement).value)))
  return html`<${Slider} name=${name} figure=${rate(mbps)} min="0" max=${RATE_STEPS} step="1" value=${stepOf(mbps)} onInput=${onInput} />`
}

interface FieldsProps {
  scenario: ScenarioInput
  changes: readonly Change[]
  put: (change: Change) => void
}

function LinkFields({ scenario, changes, put }: FieldsProps) {
  const { devices } = scenario
  const pairs = devices.flatMap((a, i) => devices.slice(i + 1).map(b => [a, b] as const))
  const [chosen, choose] = useState(0)
  const pair = pairs[chosen]
  if (pair === undefined) return null
  const [a, b] = pair
  const { mbps, latencyMs } = linkOf(changed(scenario, changes), a.id, b.id)
  return html`<fieldset>
    <legend>A link's speed</legend>
    <label>Between
      <select value=${chosen} onChange=${(event: Event) => choose(Number((event.target as HTMLSelectElement).value))}>
        ${pairs.map(([one, other], i) => html`<option key=${i} value=${i}>${one.name ?? one.id} and ${other.name ?? other.id}</option>`)}
      </select>
    </label>
    <${RateSlider} name="Rate" mbps=${mbps} onRate=${(mbps: number) => put({ kind: 'link', between: [a.id, b.id], mbps, latencyMs })} />
  </fieldset>`
}

/** One more device: put there at once, with as much memory as this one, and changed from there. */
function DeviceFields({ scenario, changes, put, onRemove }: FieldsProps & { onRemove: () => void }) {
  const added = changes.find(({ kind }) => kind === 'device')
  const source = scenario.devices.find(({ id }) => id === scenario.source)
  const ownBytes =
    source === undefined ? 0 : Math.max(...memoriesOf(source).map(({ memoryBytes }) => memoryBytes))
  const device = added?.kind === 'device' ? added : undefined
  const add = () => put({ kind: 'device', memoryBytes: ownBytes, like: scenario.source, mbps: ADDED_MBPS })
  // One button for both, so that whoever presses it by the keyboard is still there.
  return html`<fieldset>
    <legend>One more device, as fast as this one</legend>
    ${device && html`<${MemorySlider} name=${`Memory of ${ADDED_DEVICE}`} memoryBytes=${device.memoryBytes} mostBytes=${mostOf(ownBytes)} onMemory=${(memoryBytes: number) => put({ ...device, memoryBytes })} />`}
    ${device && html`<${RateSlider} name="Rate to the others" mbps=${device.mbps} onRate=${(mbps: number) => put({ ...device, mbps })} />`}
    <button type="button" onClick=${device ? onRemove : add}>${device ? 'Take it away' : 'Add it'}</button>
  </fieldset>`
}

/** A sentence of the planner with names in the place of a scenario's ids. */
function withNamesOf(scenario: ScenarioInput, text: string): string {
  return scenario.devices.reduce((said, { id, name }) => said.replaceAll(id, () => name ?? id), text)
}

function Outcome({ plan, scenario }: { plan: Plan; scenario: ScenarioInput }) {
  const nameOf = (id: string) => scenario.devices.find(device => device.id === id)?.name ?? id
  const colourOf = (id: string) => scenario.devices.findIndex(device => device.id === id) % COLOURS
  const stages = plan.stages.map(({ device, processor, layers }, i) => ({
    peerId: device,
    name: placeName({ id: nameOf(device), processor }),
    layers,
    computeMs: plan.predicted.stages[i]?.computeMs ?? 0,
    colour: colourOf(device)
  }))
  const said = stages.map(({ name, layers }) => `${name} ${layerRange(layers)}`).join(', ')
  return html`<${Strip} stages=${stages} linksMs=${plan.predicted.linksMs} />
    <p>${said}</p>
    <p>${certificateOf(plan)}</p>
    ${plan.left.map(({ device, processor, reason }) => {
      const name = placeName({ id: nameOf(device), processor })
      return html`<p class="hint" key=${`${device} ${processor}`}>${name}: ${withNamesOf(scenario, reason)}</p>`
    })}`
}

/** The node's plan for the scenario with these changes, which may go on meanwhile. */
function useTrials(connection: Connection, scenario: ScenarioInput, changes: readonly Change[]) {
  const trials = useMemo(
    () =>
      new Trials((tried, signal) =>
        connection.planned(client => client.planFor(changed(scenario, tried), { signal }), signal)
      ),
    [connection, scenario]
  )
  useEffect(() => () => trials.stop(), [trials])
  useEffect(
    () => trials.want(changes.length > 0 || changes === NONE ? changes : undefined),
    [trials, changes]
  )
  return useStore(trials.answer)
}
