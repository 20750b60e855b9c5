import { useMemo } from 'preact/hooks'
import type { AnswerFigures } from '../mesh-events.ts'
import type { EndedAnswer } from './activity.ts'
import type { Connection } from './connection.ts'
import { type Device, devicesOf, nameOf } from './devices.ts'
import { time } from './format.ts'
import { html } from './html.ts'
import { useStore } from './store.ts'

/** Whether plans are right: what was predicted beside what was measured. */
export function AnswersView({ connection }: { connection: Connection }) {
  const { ended } = useStore(connection.activity)
  const mesh = useStore(connection.mesh)
  const devices = useMemo(() => (mesh === undefined ? [] : devicesOf(mesh)), [mesh])
  const measured = ended.filter(hasSteps)
  const last = measured.at(-1)?.result
  if (last === undefined) return null
  return html`<section aria-labelledby="answers-title">
    <h2 id="answers-title">Predicted and measured</h2>
    <p class="headline">${headline(last)}</p>
    ${measured.length > 1 && html`<${History} answers=${measured} />`}
    <${Parts} figures=${last} devices=${devices} />
  </section>`
}

function hasSteps({ result }: EndedAnswer): boolean {
  return result !== undefined && result.measured.steps > 0
}

function headline({ tpotMs, predicted }: AnswerFigures): string {
  const ratio = tpotMs / predicted.tpotMs
  const off = Math.abs(ratio - 1) < 0.05 ? 'as predicted' : `${ratio.toFixed(2)} times the prediction`
  return `The last answer took ${time(tpotMs)} a token, ${off} (${time(predicted.tpotMs)}).`
}

/** Each part of the last answer's step. */
function Parts({ figures, devices }: { figures: AnswerFigures; devices: readonly Device[] }) {
  const { plan, predicted, measured } = figures
  const rows = plan.stages.flatMap(({ peerId }, i) => {
    const name = nameOf(devices, peerId)
    const next = nameOf(devices, plan.stages[(i + 1) % plan.stages.length]!.peerId)
    const stage = {
      what: name,
      predictedMs: predicted.stages[i]?.computeMs,
      measuredMs: measured.stages[i]?.computeMs
    }
    if (predicted.linksMs[i] === undefined) return [stage]
    return [
      stage,
      { what: `${name} to ${next}`, predictedMs: predicted.linksMs[i], measuredMs: measured.linksMs[i] }
    ]
  })
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
function History({ answers }: { answers: readonly EndedAnswer[] }) {
  const points = answers.map(({ result }) => ({
    measured: result!.tpotMs,
    predicted: result!.predicted.tpotMs
  }))
  const highest = Math.max(...points.flatMap(({ measured, predicted }) => [measured, predicted]), 0.001)
  const line = (of: (point: (typeof points)[number]) => number) =>
    points
      .map((point, i) => {
        const x = (WIDTH * i) / (points.length - 1)
        return `${x.toFixed(1)},${(HEIGHT - 2 - ((HEIGHT - 4) * of(point)) / highest).toFixed(1)}`
      })
      .join(' ')
  const label = `Time a token of the last ${answers.length} answers, at most ${time(highest)}`
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
