import { useEffect, useState } from 'preact/hooks'
import { placeName } from '../place-name.ts'
import type { Plan, Refusal } from '../plan/problem.ts'
import type { ScenarioInput } from '../plan/scenario.ts'
import { certificateOf } from './certificate.ts'
import type { Connection } from './connection.ts'
import { COLOURS } from './devices.ts'
import { bytes, time } from './format.ts'
import { html } from './html.ts'
import { Strip } from './strip.ts'
import { type Change, changed, linkOf, memoriesOf } from './what-if.ts'

/** A person who drags has come to rest for so long before the node is asked. */
const ASK_AFTER_MS = 250
const MIB = 1024 ** 2

/** What the exact plan would be with more memory, another link or one more device. Nothing of the mesh changes. */
export function WhatIfView({ connection }: { connection: Connection }) {
  const [scenario, setScenario] = useState<ScenarioInput>()
  const [problem, setProblem] = useState('')
  const open = async (event: Event) => {
    if (!(event.target as HTMLDetailsElement).open) return setScenario(undefined)
    try {
      setScenario(await connection.client.scenario())
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
  const isSame = (one: Change, other: Change) => keyOf(one) === keyOf(other)
  const put = (change: Change) => setChanges(old => [...old.filter(other => !isSame(other, change)), change])
  const asItIs = usePlanFor(connection, scenario, NONE)
  const trial = usePlanFor(connection, scenario, changes)
  // Until there is something of the trial, what is there stays.
  const isTried = changes.length > 0 && (trial.result !== undefined || trial.problem !== '')
  const { result, problem, tried } = isTried ? trial : asItIs
  return html`<div class="trial">
    <fieldset>
      <legend>Memory for stages</legend>
      ${scenario.devices.flatMap(device =>
        memoriesOf(device).map(({ processor, memoryBytes }) => {
          const change = changes.find(
            change =>
              change.kind === 'memory' && change.device === device.id && change.processor === processor
          )
          const place = { ...device, processor, memoryBytes }
          return html`<${MemorySlider} key=${`${device.id} ${processor}`} place=${place} change=${change} put=${put} />`
        })
      )}
    </fieldset>
    <${LinkFields} scenario=${scenario} put=${put} />
    <${DeviceFields} scenario=${scenario} put=${put} />
    <button type="button" disabled=${changes.length === 0} onClick=${() => setChanges([])}>As it is</button>
    <div role="status">
      ${problem !== '' && html`<p class="failure">${problem}</p>`}
      ${result !== undefined && html`<${Outcome} plan=${result} before=${tried.length > 0 ? asItIs.result : undefined} scenario=${changed(scenario, tried)} />`}
    </div>
  </div>`
}

const NONE: readonly Change[] = []

function keyOf(change: Change): string {
  if (change.kind === 'memory') return `memory ${change.device} ${change.processor}`
  return change.kind === 'link' ? `link ${change.between.join(' ')}` : 'device'
}

type Put = (change: Change) => void
interface Place {
  id: string
  name?: string | undefined
  processor: string | undefined
  memoryBytes: number
}

function MemorySlider({
  place: { id, name, processor, memoryBytes },
  change,
  put
}: {
  place: Place
  change: Change | undefined
  put: Put
}) {
  const now = change?.kind === 'memory' ? change.memoryBytes : memoryBytes
  const most = Math.max(memoryBytes * 4, 16 * MIB)
  const onInput = (event: Event) =>
    put({
      kind: 'memory',
      device: id,
      processor,
      memoryBytes: Number((event.target as HTMLInputElement).value)
    })
  return html`<label>
    ${placeName({ id: name ?? id, processor })}: ${bytes(now)}
    <input type="range" min="0" max=${most} step=${most / 400} value=${now} aria-valuetext=${bytes(now)} onInput=${onInput} />
  </label>`
}

function LinkFields({ scenario, put }: { scenario: ScenarioInput; put: Put }) {
  const { devices } = scenario
  const pairs = devices.flatMap((a, i) => devices.slice(i + 1).map(b => [a, b] as const))
  const [chosen, choose] = useState(0)
  const pair = pairs[chosen]
  const [mbps, setMbps] = useState<number>()
  if (pair === undefined) return null
  const [a, b] = pair
  const link = linkOf(scenario, a.id, b.id)
  const set = (event: Event) => {
    const value = Number((event.target as HTMLInputElement).value)
    if (!(value >= 0.001)) return
    setMbps(value)
    put({ kind: 'link', between: [a.id, b.id], mbps: value, latencyMs: link.latencyMs })
  }
  const onPair = (event: Event) => {
    choose(Number((event.target as HTMLSelectElement).value))
    setMbps(undefined)
  }
  return html`<fieldset>
    <legend>A link's speed</legend>
    <label>Between
      <select value=${chosen} onChange=${onPair}>
        ${pairs.map(([one, other], i) => html`<option key=${i} value=${i}>${one.name ?? one.id} and ${other.name ?? other.id}</option>`)}
      </select>
    </label>
    <label>Mbps
      <input type="number" min="0.001" step="any" value=${mbps ?? Number(link.mbps.toPrecision(3))} onChange=${set} />
    </label>
  </fieldset>`
}

function DeviceFields({ scenario, put }: { scenario: ScenarioInput; put: Put }) {
  const [mib, setMib] = useState(4096)
  const [mbps, setMbps] = useState(1000)
  const number = (set: (value: number) => void) => (event: Event) => {
    const value = Number((event.target as HTMLInputElement).value)
    if (value > 0) set(value)
  }
  const add = () => put({ kind: 'device', memoryBytes: Math.round(mib * MIB), like: scenario.source, mbps })
  return html`<fieldset>
    <legend>One more device, as fast as this one</legend>
    <label>MiB of memory <input type="number" min="1" step="any" value=${mib} onChange=${number(setMib)} /></label>
    <label>Mbps to the others <input type="number" min="0.001" step="any" value=${mbps} onChange=${number(setMbps)} /></label>
    <button type="button" onClick=${add}>Add it</button>
  </fieldset>`
}

function Outcome({
  plan,
  before,
  scenario
}: {
  plan: Plan | Refusal
  before: Plan | Refusal | undefined
  scenario: ScenarioInput
}) {
  const nameOf = (id: string) => scenario.devices.find(device => device.id === id)?.name ?? id
  const named = (text: string) =>
    scenario.devices.reduce((said, { id, name }) => said.replaceAll(id, () => name ?? id), text)
  if (!plan.feasible) return html`<p class="failure">It would fit nowhere: ${named(plan.reason)}</p>`
  const colourOf = (id: string) => scenario.devices.findIndex(device => device.id === id) % COLOURS
  const stages = plan.stages.map(({ device, processor, layers }, i) => ({
    peerId: device,
    name: placeName({ id: nameOf(device), processor }),
    layers,
    computeMs: plan.predicted.stages[i]?.computeMs ?? 0,
    colour: colourOf(device)
  }))
  const said = stages.map(({ name, layers }) => `${name} [${layers.join(', ')})`).join(', ')
  return html`<p class="headline">
      ${time(plan.predicted.tpotMs)} a token${before?.feasible && ` instead of ${time(before.predicted.tpotMs)}`}
    </p>
    <${Strip} stages=${stages} linksMs=${plan.predicted.linksMs} />
    <p>${said}</p>
    <p>${certificateOf(plan)}</p>
    ${plan.left.map(({ device, processor, reason }) => {
      const name = placeName({ id: nameOf(device), processor })
      return html`<p class="hint" key=${`${device} ${processor}`}>${name}: ${named(reason)}</p>`
    })}`
}

interface Answer {
  result: Plan | Refusal | undefined
  problem: string
  /** The changes that `result` is for. */
  tried: readonly Change[]
}

const AS_IT_IS: Answer = { result: undefined, problem: '', tried: [] }

/** The node's plan for the scenario with these changes; of several that are asked for, the last. */
function usePlanFor(connection: Connection, scenario: ScenarioInput, changes: readonly Change[]) {
  const [answer, setAnswer] = useState<Answer>(AS_IT_IS)
  useEffect(() => {
    if (changes.length === 0 && changes !== NONE) return
    const abort = new AbortController()
    const ask = async () => {
      try {
        const { signal } = abort
        const result = await connection.planned(
          client => client.planFor(changed(scenario, changes), { signal }),
          signal
        )
        setAnswer({ result, problem: '', tried: changes })
      } catch (error) {
        if (abort.signal.aborted) return
        setAnswer(old => ({ ...old, problem: error instanceof Error ? error.message : String(error) }))
      }
    }
    const timer = setTimeout(ask, ASK_AFTER_MS)
    return () => {
      clearTimeout(timer)
      abort.abort()
    }
  }, [connection, scenario, changes])
  return answer
}
