import { useEffect, useRef } from 'preact/hooks'
import type { Connection } from './connection.ts'
import { html } from './html.ts'
import type { Point } from './layout.ts'
import { useStore } from './store.ts'

/** A dot is under way for so long; steps are faster than eyes, so it shows the way and not the time. */
const TRAVEL_MS = 900
const DOTS = [0, 1, 2]
/**
 * Places that a dot takes on its way: 20 a second. Each picture is made by a processor where a device has no graphics, as small
 * ones that also compute have not.
 */
const PLACES = 18

interface Props {
  connection: Connection
  /** Middles of the devices' cards. */
  places: ReadonlyMap<string, Point>
}

/** The way of a token through the stages and back, while an answer runs: a part of the drawing. */
export function Way({ connection, places }: Props) {
  const { way } = useWay(connection, places)
  const path = way.length > 1 ? [...way, way[0]!] : way
  if (path.length === 0) return null
  return html`<polyline class="way" aria-hidden="true" points=${path.map(({ x, y }) => `${x},${y}`).join(' ')} />`
}

/**
 * The token on its way: some of the steps of the answers that run, and how many tokens there are. It is no part
 * of the drawing, so that nothing of that is drawn anew ten times a second, and its dots stay, so that the browser has but to
 * move them. Dots are still for those who want no motion.
 */
export function Travel({ connection, places }: Props) {
  const { way, tokens } = useWay(connection, places)
  const step = useStore(connection.step)
  const box = useRef<HTMLDivElement>(null)
  /** When each dot has come to the end of its way: asking the browser for that would have it work out all styles. */
  const restsAtMs = useRef(DOTS.map(() => 0))
  // A dot a step; where the devices stand may change below it.
  useEffect(() => {
    if (step !== undefined && box.current !== null) sendDot(box.current, way, restsAtMs.current)
  }, [step])
  const [start] = way
  return html`<div class="travel" ref=${box} aria-hidden="true">
    ${DOTS.map(i => html`<div class="dot" key=${i}></div>`)}
    ${
      start !== undefined &&
      tokens !== undefined &&
      html`<div class="count" style=${{ left: `${start.x}px`, top: `${start.y}px` }}>${tokens} token${tokens === 1 ? '' : 's'}</div>`
    }
  </div>`
}

/** The way of the answer whose step was the last, else of another that runs; `tokens`: how many it has, where that is known. */
function useWay(connection: Connection, places: Props['places']): { way: Point[]; tokens?: number } {
  const { live } = useStore(connection.activity)
  const step = useStore(connection.step)
  const stepped = live.find(({ answer }) => answer === step?.answer)
  const stages = (stepped ?? live[0])?.stages ?? []
  const way = stages.map(({ peerId }) => places.get(peerId)).filter(point => point !== undefined)
  return { way, ...(stepped !== undefined && { tokens: step!.tokens }) }
}

/** Has a dot that rests go along the way and back to where it began. */
function sendDot(box: HTMLElement, way: readonly Point[], restsAtMs: number[]): void {
  if (way.length < 2 || matchMedia('(prefers-reduced-motion: reduce)').matches) return
  const nowMs = performance.now()
  const free = restsAtMs.findIndex(restMs => restMs <= nowMs)
  const dot = box.querySelectorAll('.dot')[free]
  if (dot === undefined) return
  restsAtMs[free] = nowMs + TRAVEL_MS
  const frames = [...way, way[0]!].map(({ x, y }) => ({ transform: `translate(${x}px, ${y}px)`, opacity: 1 }))
  dot.animate(frames, { duration: TRAVEL_MS, easing: `steps(${PLACES})` })
}
