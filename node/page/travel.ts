import { useEffect, useMemo, useRef } from 'preact/hooks'
import type { Connection } from './connection.ts'
import { html } from './html.ts'
import type { Point } from './layout.ts'
import { useStore } from './store.ts'

/** A dot is under way for so long; steps are faster than eyes, so it shows the way and not the time. */
const TRAVEL_MS = 900
const DOTS = [0, 1, 2]
/** Dots rest when no step has come for so long: they are told of ten times a second at most, and a slow answer's are rarer. */
const REST_AFTER_MS = 1_000
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
 * The token on its way while steps come, and how many tokens there are. It is no part of the drawing, so that nothing of that is
 * drawn anew ten times a second, and its dots go round by themselves: a browser that begins and ends each of their ways works more
 * for that than for the text of an answer. Dots are still for those who want no motion.
 */
export function Travel({ connection, places }: Props) {
  const { way, tokens } = useWay(connection, places)
  const step = useStore(connection.step)
  const box = useRef<HTMLDivElement>(null)
  const dots = useMemo(() => new Dots(), [])
  useEffect(() => () => dots.rest(), [dots])
  // Where the devices stand may change below the dots: they take another way with the next step.
  useEffect(() => {
    if (step !== undefined && box.current !== null) dots.go(box.current, way)
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

/** Dots that go along a way and back, one behind the other, for as long as steps come. */
class Dots {
  #moving: Animation[] = []
  #way = ''
  #rest: ReturnType<typeof setTimeout> | undefined

  /** A step has come: they go, if they do not yet, or on another way. */
  go(box: HTMLElement, way: readonly Point[]): void {
    clearTimeout(this.#rest)
    this.#rest = setTimeout(() => this.rest(), REST_AFTER_MS)
    const points = way.map(({ x, y }) => `${x}px, ${y}px`)
    if (points.join() === this.#way) return
    this.rest()
    if (way.length < 2 || matchMedia('(prefers-reduced-motion: reduce)').matches) return
    this.#way = points.join()
    const frames = [...points, points[0]!].map(point => ({ transform: `translate(${point})`, opacity: 1 }))
    this.#moving = [...box.querySelectorAll('.dot')].map((dot, i) =>
      dot.animate(frames, {
        duration: TRAVEL_MS,
        easing: `steps(${PLACES})`,
        delay: (-TRAVEL_MS * i) / DOTS.length,
        iterations: Number.POSITIVE_INFINITY
      })
    )
  }

  rest(): void {
    for (const animation of this.#moving.splice(0)) animation.cancel()
    this.#way = ''
  }
}
