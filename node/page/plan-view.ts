import { useEffect, useMemo, useState } from 'preact/hooks'
import type { DeploymentState, MeshState, NodeRecord, ScenarioNeeds } from '../api.ts'
import { placeName } from '../place-name.ts'
import type { Plan, Refusal } from '../plan/problem.ts'
import { refusalText } from '../refusal-text.ts'
import { isAtRest } from './activity.ts'
import { certificateOf, isInForce, needsOf } from './certificate.ts'
import type { Connection } from './connection.ts'
import { type Device, devicesOf, modelName, nameOf, placeOf, withNames } from './devices.ts'
import { layerRange, time, tokensPerSecond } from './format.ts'
import { html } from './html.ts'
import { useOf, useStore } from './store.ts'
import { Strip } from './strip.ts'

/** What may change a plan is asked about again so long after it has. */
const ASK_AFTER_MS = 1_500

/** Which device has which layers, how good that is, and why the others have none. */
export function PlanView({ connection }: { connection: Connection }) {
  const mesh = useStore(connection.mesh)
  const devices = useMemo(() => (mesh === undefined ? [] : devicesOf(mesh)), [mesh])
  const planned = usePlan(connection)
  if (mesh === undefined) return null
  return html`<section aria-labelledby="plan-title">
    <h2 id="plan-title">Plan</h2>
    ${mesh.deployments.length === 0 && html`<p class="hint">Nothing is loaded. The first question loads the model.</p>`}
    ${mesh.deployments.map(
      deployment =>
        html`<${Deployment} key=${`${deployment.modelId} ${deployment.objective}`} deployment=${deployment} devices=${devices} model=${modelName(mesh, deployment.modelId)} />`
    )}
    ${planned !== undefined && html`<${Reasons} planned=${planned} mesh=${mesh} devices=${devices} />`}
  </section>`
}

const OBJECTIVES = { latency: 'the fastest answer', throughput: 'most tokens a second' } as const

function Deployment({
  deployment,
  devices,
  model
}: {
  deployment: DeploymentState
  devices: readonly Device[]
  model: string
}) {
  const { plan, predicted, sessions, objective, standby } = deployment
  const stages = plan.stages.map((stage, i) => ({
    ...stage,
    name: placeName({ id: stage.name, processor: stage.processor }),
    computeMs: predicted.stages[i]?.computeMs ?? 0,
    colour: devices.find(({ peerId }) => peerId === stage.peerId)?.colour ?? 0
  }))
  const use = sessions === 0 ? 'idle' : `${sessions} answer${sessions === 1 ? '' : 's'} running`
  return html`<div class="deployment">
    <p>
      ${model}, for ${OBJECTIVES[objective]}: ${tokensPerSecond(predicted.tpotMs)} predicted, ${use}.
    </p>
    <${Strip} stages=${stages} linksMs=${predicted.linksMs} />
    ${standby !== undefined && html`<p class="hint">Standing by, in case one of them dies: ${standby.stages.map(stage => `${placeOf(devices, stage)} ${layerRange(stage.layers)}`).join(', ')}.</p>`}
    <details>
      <summary>The plan as a table</summary>
      <div class="wide" tabindex="0" role="group" aria-label="Plan">
        <table>
          <thead>
            <tr><th scope="col">Device</th><th scope="col">Layers</th><th scope="col">Computing</th><th scope="col">On the way to the next</th></tr>
          </thead>
          <tbody>
            ${stages.map(
              ({ peerId, processor, layers, computeMs }, i) => html`<tr key=${`${peerId} ${i}`}>
                <th scope="row">${placeOf(devices, { peerId, processor })}</th>
                <td>${layerRange(layers)}</td>
                <td>${time(computeMs)}</td>
                <td>${predicted.linksMs[i] === undefined ? '' : time(predicted.linksMs[i]!)}</td>
              </tr>`
            )}
          </tbody>
        </table>
      </div>
    </details>
  </div>`
}

function Reasons({
  planned: { plan, needs },
  mesh,
  devices
}: {
  planned: Planned
  mesh: MeshState
  devices: readonly Device[]
}) {
  if (!plan.feasible)
    return html`<p class="failure">The model fits nowhere now: ${withNames(devices, refusalText(plan))}.</p>`
  const placed = mesh.deployments.filter(
    ({ modelId, objective }) => modelId === needs.model && objective === needs.objective
  )
  // What is loaded was planned when it was: what would be planned now may be another plan, with reasons of its own.
  const isOther = placed.length > 0 && !isInForce(plan, placed)
  const isOneOfSeveral = placed.length > 0 && mesh.deployments.length > 1
  const stages = plan.stages.map(
    ({ device, processor, layers }) =>
      `${placeOf(devices, { peerId: device, processor })} ${layerRange(layers)}`
  )
  return html`${isOneOfSeveral && html`<p class="hint">Of these, ${modelName(mesh, placed[0]!.modelId)}:</p>`}
  ${
    isOther &&
    html`<h3>Placed anew now, it would be</h3>
        <p>${stages.join(', ')}. What is loaded stays for as long as that would save too little.</p>`
  }
    <p>${certificateOf(plan)}</p>
    ${
      plan.left.length > 0 &&
      html`<h3>Why not these</h3>
        <dl>
          ${plan.left.map(
            ({ device, processor, reason }) =>
              html`<div key=${`${device} ${processor}`}><dt>${placeName({ id: nameOf(devices, device), processor })}</dt><dd>${withNames(devices, reason)}</dd></div>`
          )}
        </dl>`
    }
    ${plan.advice !== undefined && html`<p>What would help most: ${withNames(devices, plan.advice)}.</p>`}`
}

/** A planner's answer, and what it was asked for. */
interface Planned {
  plan: Plan | Refusal
  needs: ScenarioNeeds
}

/**
 * The planner's answer for the model that is loaded, else for the default one; asked for again when devices, links or what is
 * placed have changed.
 */
function usePlan(connection: Connection): Planned | undefined {
  const mesh = useStore(connection.mesh)
  const [planned, setPlanned] = useState<Planned>()
  // What answers compute with is not there for another plan: it is asked about when they are over.
  const isIdle = useOf(connection.activity, isAtRest)
  const isQuiet = isIdle && mesh?.deployments.every(({ sessions }) => sessions === 0) === true
  const cause = useMemo(() => {
    if (mesh === undefined) return ''
    const peers = mesh.peers.map(peer => [peer.peerId, peer.state, offeredBy(peer)])
    const placed = mesh.deployments.map(({ modelId, objective, plan }) => [
      modelId,
      objective,
      plan.stages.length
    ])
    const links = mesh.links.map(({ from, to, mbps }) => [from, to, mbps.toPrecision(1)])
    const models = mesh.self.models.map(({ id }) => id)
    return JSON.stringify([offeredBy(mesh.self), peers, placed, links, models])
  }, [mesh])
  // `cause` says that something has changed.
  useEffect(() => {
    if (!isQuiet) {
      // That it fits nowhere may have been said of memory that is taken for this very answer.
      setPlanned(old => (old?.plan.feasible === false ? undefined : old))
      return
    }
    const abort = new AbortController()
    const timer = setTimeout(() => {
      const { signal } = abort
      const needs = needsOf(connection.mesh.value?.deployments ?? [])
      connection
        .planned(client => client.plan(needs, { signal }), signal)
        .then(
          plan => setPlanned({ plan, needs }),
          () => {
            // A node that cannot say, or another question that was sooner: what was said before stands until the next change.
          }
        )
    }, ASK_AFTER_MS)
    return () => {
      clearTimeout(timer)
      abort.abort()
    }
  }, [connection, isQuiet, cause])
  return planned
}

/** What a device gives to stages, processor by processor, as far as a plan hangs on it. */
function offeredBy({ memory, processors = [] }: NodeRecord): unknown[] {
  return [
    memory.budgetBytes,
    ...processors.map(({ kind, used, memory }) => [kind, used, memory?.budgetBytes])
  ]
}
