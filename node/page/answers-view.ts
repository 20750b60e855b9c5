import { useMemo } from 'preact/hooks'
import type { Stretch } from '../api.ts'
import { predictedTpotMs, stretchesOf } from '../stretches.ts'
import type { EndedAnswer } from './activity.ts'
import type { Connection } from './connection.ts'
import { type Device, devicesOf, placeOf } from './devices.ts'
import { time } from './format.ts'
import { html } from './html.ts'
import { useStore } from './store.ts'

/** A stretch of an answer whose plan can be held against what it took. */
interface Compared {
  stretch: Stretch
  predictedMs: number
}

/** Whether plans are right: what was predicted beside what was measured, each time by the plan that was in force. */
export function AnswersView({ connection }: { connection: Connection }) {
  const { ended } = useStore(connection.activity)
  const mesh = useStore(connection.mesh)
  const devices = useMemo(() => (mesh === undefined ? [] : devicesOf(mesh)), [mesh])
  const answers = useMemo(() => ended.map(comparedOf).filter(parts => parts.length > 0), [ended])
  const last = answers.at(-1)
  if (last === undefined) return null
  const all = answers.flat()
  return html`<section aria-labelledby="answers-title">
    <h2 id="answers-title">Predicted and measured</h2>
    <p class="headline">${headline(last)}</p>
    ${last.length > 1 && html`<${Plans} parts=${last} devices=${devices} />`}
    ${all.length > 1 && html`<${History} parts=${all} />`}
    <${Parts} stretch=${last.at(-1)!.stretch} devices=${devices} />
  </section>`
}

/** The stretches of an answer that have a time between two tokens. */
export function comparedOf({ result, tokens: count }: EndedAnswer): Compared[] {
  if (result === undefined) return []
  return stretchesOf({ ...result, count })
    .filter(({ tpotMs }) => tpotMs > 0)
    .map(stretch => ({ stretch, predictedMs: predictedTpotMs(stretch.predicted, result.guesses) }))
}

export function headline(parts: readonly Compared[]): string {
  const { stretch, predictedMs } = parts.at(-1)!
  const ratio = stretch.tpotMs / predictedMs
  const off = Math.abs(ratio - 1) < 0.05 ? 'as predicted' : `${ratio.toFixed(2)} times the prediction`
  const took = `${time(stretch.tpotMs)} a token, ${off} (${time(predictedMs)}).`
  if (parts.length === 1) return `The last answer took ${took}`
  return `The last answer had ${parts.length} plans, one after the other. Under the last one it took ${took}`
}

/** The plans that an answer had one after the other. */
function Plans({ parts, devices }: { parts: readonly Compared[]; devices: readonly Device[] }) {
  return html`<div class="wide" tabindex="0" role="group" aria-label="Plans of the last answer">
    <table>
      <thead>
        <tr><th scope="col">Plan, one after the other</th><th scope="col">Tokens</th><th scope="col">Predicted</th><th scope="col">Measured</th></tr>
      </thead>
      <tbody>
        ${parts.map(
          ({ stretch: { plan, tokens, tpotMs }, predictedMs }, i) => html`<tr key=${i}>
            <th scope="row">${plan.stages.map(stage => placeOf(devices, stage)).join(', ')}</th>
            <td>${tokens}</td>
            <td>${time(predictedMs)}</td>
            <td>${time(tpotMs)}</td>
          </tr>`
        )}
      </tbody>
    </table>
  </div>`
}

/** A part of a step: a stage's computing, its waiting, or the way to the next one. */
interface Part {
  what: string
  predictedMs: number | undefined
  measuredMs: number | undefined
}

/** The parts of a step of a stretch, predicted beside measured; none where no step was measured. */
export function partsOf({ plan, predicted, measured }: Stretch, devices: readonly Device[]): Part[] {
  if (measured === undefined || measured.steps === 0) return []
  return plan.stages.flatMap((planned, i) => {
    const name = placeOf(devices, planned)
    const next = placeOf(devices, plan.stages[(i + 1) % plan.stages.length]!)
    const [before, after] = [predicted.stages[i], measured.stages[i]]
    const stage = [
      { what: `${name} computes`, predictedMs: before?.computeMs, measuredMs: after?.computeMs },
      { what: `${name}: its thread and turn`, predictedMs: before?.waitMs, measuredMs: after?.waitMs }
    ]
    if (predicted.linksMs[i] === undefined) return stage
    return [
      ...stage,
      { what: `${name} to ${next}`, predictedMs: predicted.linksMs[i], measuredMs: measured.linksMs[i] }
    ]
  })
}

/** The parts of a step of the last plan, as a table with bars. */
function Parts({ stretch, devices }: { stretch: Stretch; devices: readonly Device[] }) {
  const rows = partsOf(stretch, devices)
  if (rows.length === 0) return null
  const longest = Math.max(
    ...rows.flatMap(({ predictedMs = 0, measuredMs = 0 }) => [predictedMs, measuredMs]),
    0.001
  )
  return html`<div class="wide" tabindex="0" role="group" aria-label="Predicted and measured">
    <table>
      <thead>
        <tr><th scope="col">Part of a step</th><th scope="col">Predicted</th><th scope="col">Measured</th><th scope="col"><span class="visually-hidden">Both as bars</span></th></tr>
      </thead>
      <tbody>
        ${rows.map(
          ({ what, predictedMs, measuredMs }, i) => html`<tr key=${i}>
            <th scope="row">${what}</th>
            <td>${predictedMs === undefined ? '' : time(predictedMs)}</td>
            <td>${measuredMs === undefined ? '' : time(measuredMs)}</td>
            <td><svg class="bars" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
              <rect class="predicted" y="0" height="4" width=${(100 * (predictedMs ?? 0)) / longest} />
              <rect class="measured" y="5" height="4" width=${(100 * Math.max(0, measuredMs ?? 0)) / longest} />
            </svg></td>
          </tr>`
        )}
      </tbody>
    </table>
  </div>`
}

const WIDTH = 300
const HEIGHT = 60

/** Time a token of the last answers as a line, and what was predicted as another. */
function History({ parts }: { parts: readonly Compared[] }) {
  const points = parts.map(({ stretch, predictedMs }) => ({
    measured: stretch.tpotMs,
    predicted: predictedMs
  }))
  const highest = Math.max(...points.flatMap(({ measured, predicted }) => [measured, predicted]), 0.001)
  const line = (of: (point: (typeof points)[number]) => number) =>
    points
      .map((point, i) => {
        const x = (WIDTH * i) / (points.length - 1)
        return `${x.toFixed(1)},${(HEIGHT - 2 - ((HEIGHT - 4) * of(point)) / highest).toFixed(1)}`
      })
      .join(' ')
  const label = `Time a token of the last answers, at most ${time(highest)}`
  return html`<figure>
    <svg class="history" viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label=${label}>
      <polyline class="predicted" points=${line(({ predicted }) => predicted)} />
      <polyline class="measured" points=${line(({ measured }) => measured)} />
    </svg>
    <figcaption class="hint">
      <span class="key-measured">measured</span>, <span class="key-predicted">predicted</span>; ${label}.
    </figcaption>
  </figure>`
}
