import { useEffect, useState } from 'preact/hooks'
import { paceOf } from '../pace.ts'
import type { Load } from './activity.ts'
import type { Connection } from './connection.ts'
import { bytesOf } from './format.ts'
import { html } from './html.ts'
import { useStore } from './store.ts'

const COUNT_EVERY_MS = 1_000

/** How far loading is, a line a device. */
export function LoadsView({ connection }: { connection: Connection }) {
  const { loads } = useStore(connection.activity)
  const mesh = useStore(connection.mesh)
  const fetches = mesh?.fetches ?? []
  const under = loads.filter(({ phase }) => phase !== 'plan')
  useSeconds(under.length > 0)
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
  const { phase, peer, done, total, doneBefore: from, sinceMs } = load
  const what = phase === 'weights' ? 'weights' : 'loading'
  const seconds = (performance.now() - sinceMs) / 1000
  const far = phase === 'weights' ? ` ${bytesOf(done, total)}${paceOf({ done, total, from }, seconds)}` : ''
  return html`<li>
    <span>${peer}: ${what}${far}</span>
    <progress aria-label=${`${peer}: ${what}`} max=${total} value=${done}></progress>
  </li>`
}

/** Draws a component anew each second while something is under way: what stands still takes longer, and nothing says so. */
function useSeconds(isUnderWay: boolean): void {
  const [, setSeconds] = useState(0)
  useEffect(() => {
    if (!isUnderWay) return
    const timer = setInterval(() => setSeconds(old => old + 1), COUNT_EVERY_MS)
    return () => clearInterval(timer)
  }, [isUnderWay])
}
