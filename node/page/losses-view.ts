import { useEffect, useMemo, useState } from 'preact/hooks'
import { isOver, type Loss } from './activity.ts'
import { toField } from './composer.ts'
import type { Connection } from './connection.ts'
import { type Device, devicesOf, nameOf, placeOf, withShortIds } from './devices.ts'
import { layerRange, time } from './format.ts'
import { html } from './html.ts'
import { useStore } from './store.ts'

const COUNT_EVERY_MS = 250

/** Devices that were lost under answers, what computes in their place, and what that took. */
export function LossesView({ connection }: { connection: Connection }) {
  const { losses } = useStore(connection.activity)
  const mesh = useStore(connection.mesh)
  const devices = useMemo(() => (mesh === undefined ? [] : devicesOf(mesh)), [mesh])
  return html`<div role="alert" class="losses">
    ${losses.map(
      loss =>
        html`<${LossLine} key=${`${loss.answer} ${loss.peerId} ${loss.sinceMs}`} loss=${loss} devices=${devices} onSeen=${() => connection.forgetLoss(loss)} />`
    )}
  </div>`
}

function LossLine({ loss, devices, onSeen }: { loss: Loss; devices: readonly Device[]; onSeen: () => void }) {
  const { peerId, reason, stages, spent, outcome, sinceMs } = loss
  const isPast = isOver(loss)
  const name = nameOf(devices, peerId)
  const dismiss = () => {
    toField()
    onSeen()
  }
  const now = stages?.map(stage => `${placeOf(devices, stage)} ${layerRange(stage.layers)}`).join(', ')
  return html`<div class=${`loss ${isPast ? 'over' : ''}`}>
    <p>
      <b>${name} is lost.</b>
      ${now !== undefined && ` Now: ${now}.`}
      ${now === undefined && (isPast ? ' Nothing took its place.' : ' Its layers are being placed anew.')}
      ${spent !== undefined && ` ${spentOf(spent)}`}
      ${outcome !== undefined && (outcome === 'error' ? ' The answer ended with an error.' : ` The answer ended: ${outcome}.`)}
    </p>
    <p class="hint">${withShortIds(devices, reason)}</p>
    ${isPast ? html`<button type="button" onClick=${dismiss}>Dismiss</button>` : html`<${Counter} sinceMs=${sinceMs} />`}
  </div>`
}

function spentOf({ detectMs, planMs, recruitMs, rebuildMs }: NonNullable<Loss['spent']>): string {
  return `Noticed after ${time(detectMs)}, planned in ${time(planMs)}, loaded in ${time(recruitMs)}, caught up in ${time(rebuildMs)}.`
}

/** Seconds since then; nobody has them read out. */
function Counter({ sinceMs }: { sinceMs: number }) {
  const [nowMs, setNow] = useState(performance.now())
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), COUNT_EVERY_MS)
    return () => clearInterval(timer)
  }, [])
  return html`<p aria-hidden="true">${(Math.max(0, nowMs - sinceMs) / 1000).toFixed(1)} s</p>`
}
