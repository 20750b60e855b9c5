import type { Load } from './activity.ts'
import type { Connection } from './connection.ts'
import { bytesOf } from './format.ts'
import { html } from './html.ts'
import { useStore } from './store.ts'

/** How far loading is, a line a device. */
export function LoadsView({ connection }: { connection: Connection }) {
  const { loads } = useStore(connection.activity)
  const mesh = useStore(connection.mesh)
  const fetches = mesh?.fetches ?? []
  const under = loads.filter(({ phase }) => phase !== 'plan')
  if (under.length === 0 && fetches.length === 0) return null
  return html`<section aria-labelledby="loads-title">
    <h2 id="loads-title">Loading</h2>
    <ul class="loads">
      ${under.map(load => html`<${LoadLine} key=${`${load.answer} ${load.peer} ${load.phase}`} load=${load} />`)}
      ${fetches.map(
        ({ modelId, done, total, mbps }) => html`<li key=${modelId}>
          <span>Files for this device: ${bytesOf(done, total)}, ${mbps.toFixed(0)} Mbps</span>
          <progress aria-label="Files for this device" max=${total} value=${done}></progress>
        </li>`
      )}
    </ul>
  </section>`
}

function LoadLine({ load }: { load: Load }) {
  const { phase, peer, done, total } = load
  const what =
    phase === 'weights' ? `${peer}: weights ${bytesOf(done, total)}${paceOf(load)}` : `${peer}: loading`
  return html`<li>
    <span>${what}</span>
    <progress aria-label=${what} max=${total} value=${done}></progress>
  </li>`
}

/** `, 12.1 MB/s, 3 s left`, once there is something to go by. */
function paceOf({ done, total, doneBefore, sinceMs }: Load): string {
  const seconds = (performance.now() - sinceMs) / 1000
  const got = done - doneBefore
  if (got <= 0 || seconds < 0.2) return ''
  const left = Math.ceil(((total - done) * seconds) / got)
  return `, ${(got / seconds / 1e6).toFixed(1)} MB/s, ${done < total ? `${left} s left` : 'there'}`
}
