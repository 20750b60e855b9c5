import { useEffect, useRef } from 'preact/hooks'
import type { Connection } from './connection.ts'
import { html } from './html.ts'
import type { Point } from './layout.ts'
import { useStore } from './store.ts'

/** A dot is under way for so long; steps are faster than eyes, so it shows the way and not the time. */
const TRAVEL_MS = 900
const RADIUS = 5

/** Where the token is: some of the steps of the answers that run, on their way through the stages and back. */
export function Travel({
  connection,
  places
}: {
  connection: Connection
  places: ReadonlyMap<string, Point>
}) {
  const layer = useRef<SVGGElement>(null)
  const { live } = useStore(connection.activity)
  const step = useStore(connection.step)
  const chain = live.find(({ answer }) => answer === step?.answer)?.stages ?? live[0]?.stages ?? []
  const way = chain.map(({ peerId }) => places.get(peerId)).filter(point => point !== undefined)
  // A dot a step; where the devices stand may change below it.
  useEffect(() => {
    if (step !== undefined && layer.current !== null) sendDot(layer.current, way)
  }, [step])
  const isMoving = live.some(({ answer }) => answer === step?.answer)
  const path = way.length > 1 ? [...way, way[0]!] : way
  return html`<g ref=${layer} aria-hidden="true">
    ${
      live.length > 0 &&
      html`<polyline class="way" points=${path.map(({ x, y }) => `${x},${y}`).join(' ')} />
        ${
          isMoving &&
          way[0] !== undefined &&
          html`<text class="count" x=${way[0].x} y=${way[0].y - 38}>${step!.tokens} tokens</text>`
        }`
    }
  </g>`
}

/** One dot along the way and back to where it began; still for those who want no motion. */
function sendDot(layer: SVGGElement, way: readonly Point[]): void {
  if (way.length < 2 || matchMedia('(prefers-reduced-motion: reduce)').matches) return
  if (layer.querySelectorAll('.dot').length > 3) return
  const dot = document.createElementNS('http://www.w3.org/2000/svg', 'circle')
  dot.setAttribute('class', 'dot')
  dot.setAttribute('r', String(RADIUS))
  layer.append(dot)
  const frames = [...way, way[0]!].map(({ x, y }) => ({ transform: `translate(${x}px, ${y}px)` }))
  dot.animate(frames, { duration: TRAVEL_MS }).onfinish = () => dot.remove()
}
