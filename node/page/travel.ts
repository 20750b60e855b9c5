import type { RefObject } from 'preact'
import { useEffect } from 'preact/hooks'
import type { Connection } from './connection.ts'
import { html } from './html.ts'
import type { Point } from './layout.ts'
import { useStore } from './store.ts'

/** A dot is under way for so long; steps are faster than eyes, so it shows the way and not the time. */
const TRAVEL_MS = 900
const MAX_DOTS = 3

/** Where the token is: some of the steps of the answers that run, on their way through the stages and back. */
export function Travel({
  connection,
  places,
  dots
}: {
  connection: Connection
  places: ReadonlyMap<string, Point>
  /** Above the drawing. */
  dots: RefObject<HTMLElement>
}) {
  const { live } = useStore(connection.activity)
  const step = useStore(connection.step)
  const chain = live.find(({ answer }) => answer === step?.answer)?.stages ?? live[0]?.stages ?? []
  const way = chain.map(({ peerId }) => places.get(peerId)).filter(point => point !== undefined)
  // A dot a step; where the devices stand may change below it.
  useEffect(() => {
    if (step !== undefined && dots.current !== null) sendDot(dots.current, way)
  }, [step])
  const isMoving = live.some(({ answer }) => answer === step?.answer)
  const path = way.length > 1 ? [...way, way[0]!] : way
  return html`<g aria-hidden="true">
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

/**
 * One dot along the way and back to where it began; still for those who want no motion. It is no part of the drawing, so
 * that the browser moves it without drawing anything anew.
 */
function sendDot(dots: HTMLElement, way: readonly Point[]): void {
  if (way.length < 2 || matchMedia('(prefers-reduced-motion: reduce)').matches) return
  if (dots.childElementCount >= MAX_DOTS) return
  const dot = document.createElement('div')
  dot.className = 'dot'
  dots.append(dot)
  const frames = [...way, way[0]!].map(({ x, y }) => ({ transform: `translate(${x}px, ${y}px)` }))
  dot.animate(frames, { duration: TRAVEL_MS }).onfinish = () => dot.remove()
}
