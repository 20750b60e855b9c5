import { useEffect, useRef, useState } from 'preact/hooks'
import type { LinkState } from '../api.ts'
import type { Connection } from './connection.ts'
import { type Device, howKnown, isUnsure, type Link, nameOf, OLD_MS } from './devices.ts'
import { bytesOf, cut, rate, shortRange, time } from './format.ts'
import { html } from './html.ts'
import { type Layout, labelShare, layoutOf, type Point } from './layout.ts'
import { Travel, Way } from './travel.ts'

/** Devices up to which links are drawn in full; between more they are but hinted at. */
const MAX_PLAIN = 6
/** What a figure's character takes at most, and its line. */
const CHAR_WIDTH = 6.2
const LINE_HEIGHT = 13

interface LinkProps {
  link: Link
  from: Point
  to: Point
}

/** Devices as cards, links between them as wide as they are fast. The same is in the tables below. */
export function Graph({
  devices,
  lost,
  links,
  connection
}: {
  devices: readonly Device[]
  /** Ids of those that are lost under an answer. */
  lost: string
  links: readonly Link[]
  connection: Connection
}) {
  const [box, width] = useWidth()
  const layout = layoutOf(devices.length, width)
  const places = new Map(devices.map(({ peerId }, i) => [peerId, layout.middles[i]!]))
  const drawn = links.map(link => ({
    key: `${link.a} ${link.b}`,
    link,
    from: places.get(link.a)!,
    to: places.get(link.b)!
  }))
  const label = `${devices.length} device${devices.length === 1 ? '' : 's'} and the links between them; the same is in the tables below`
  return html`<div class=${devices.length > MAX_PLAIN ? 'graph many' : 'graph'} ref=${box}>
    <svg width=${width} height=${layout.height} role="img" aria-label=${label}>
      ${drawn.map(
        ({ key, ...ends }) =>
          html`<${LinkLine} key=${key} ...${ends} title=${`${nameOf(devices, ends.link.a)} and ${nameOf(devices, ends.link.b)}`} />`
      )}
      <${Way} connection=${connection} places=${places} />
      ${
        layout.hasRoom &&
        drawn.map(({ key, link, ...ends }) => {
          const [a, b] = [link.a, link.b].map(id => devices.findIndex(({ peerId }) => peerId === id))
          return html`<${LinkLabel} key=${key} link=${link} ...${ends} share=${labelShare(devices.length, a!, b!)} />`
        })
      }
      ${devices.map(
        (device, i) =>
          html`<${Card} key=${device.peerId} device=${device} isLost=${lost.includes(device.peerId)} middle=${layout.middles[i]} card=${layout.card} />`
      )}
    </svg>
    <${Travel} connection=${connection} places=${places} />
  </div>`
}

function LinkLine({ link: { there, back }, from, to, title }: LinkProps & { title: string }) {
  const measured = [there, back].filter(link => link !== undefined)
  const mbps = Math.min(...measured.map(link => link.mbps))
  const isOld = measured.some(({ ageMs }) => ageMs > OLD_MS)
  const classes = ['link', isOld ? 'old' : '', measured.some(isUnsure) ? 'unsure' : '']
  return html`<g class=${classes.join(' ')}>
    <title>${title}: ${measured.map(describe).join('; ')}</title>
    <line x1=${from.x} y1=${from.y} x2=${to.x} y2=${to.y} stroke-width=${widthFor(mbps)} />
  </g>`
}

/** A link's figures on a ground of their own; above the way of a token, which goes along the same line. */
function LinkLabel({ link: { there, back }, from, to, share }: LinkProps & { share: number }) {
  const rttMs = Math.min(...[there, back].flatMap(link => (link === undefined ? [] : [link.rttMs])))
  const lines = [...ratesOf(there?.mbps, back?.mbps), time(rttMs)]
  const [x, y] = [from.x + share * (to.x - from.x), from.y + share * (to.y - from.y)]
  const [width, height] = [
    CHAR_WIDTH * Math.max(...lines.map(({ length }) => length)) + 4,
    LINE_HEIGHT * lines.length + 3
  ]
  return html`<g class="link">
    <rect x=${x - width / 2} y=${y - height / 2} width=${width} height=${height} rx="4" />
    ${lines.map((line, i) => html`<text key=${i} x=${x} y=${y - height / 2 + LINE_HEIGHT * (i + 1) - 2}>${line}</text>`)}
  </g>`
}

/** 1 Mbps a hair, 10 Gbps as broad as a finger's nail. */
function widthFor(mbps: number): number {
  return Math.min(9, 1 + 2 * Math.max(0, Math.log10(mbps)))
}

/** Rates of both directions: one where they read the same, one line where they have one unit, else two. */
export function ratesOf(there: number | undefined, back: number | undefined): string[] {
  const [one, other] = [there, back].map(mbps => (mbps === undefined ? '?' : rate(mbps))) as [string, string]
  if (one === other) return [one]
  const [figure, unit] = one.split(' ')
  return other.endsWith(` ${unit}`) ? [`${figure} / ${other}`] : [one, other]
}

function describe(link: LinkState): string {
  return [rate(link.mbps), time(link.rttMs), howKnown(link)].filter(text => text !== '').join(', ')
}

interface CardProps {
  device: Device
  isLost: boolean
  middle: Point
  card: Layout['card']
}

function Card({ device, isLost, middle, card }: CardProps) {
  const { name, memory, layers, colour, isSelf, isDraining } = device
  const state = isLost ? 'gone' : device.state
  const { width, height } = card
  const maxChars = Math.floor((width - 22) / 7.2)
  const what =
    state !== 'connected'
      ? state
      : isDraining
        ? 'about to go'
        : layers.length === 0
          ? 'no layers'
          : layers.map(shortRange).join(', ')
  return html`<g
    class=${`card ${state} c${colour}`}
    transform=${`translate(${middle.x - width / 2} ${middle.y - height / 2})`}
  >
    <title>${name}${isSelf ? ', this node' : ''}: ${what}${state !== 'gone' && `, ${bytesOf(memory.usedBytes, memory.budgetBytes)}`}</title>
    <rect class="frame" width=${width} height=${height} rx="8" />
    <rect class="mark" width="5" height=${height - 16} x="0" y="8" />
    <text class="name" x="12" y="18">${cut(name, maxChars)}</text>
    <text x="12" y="33">${cut(what, maxChars)}</text>
    ${state !== 'gone' && html`<${CardMemory} memory=${memory} width=${width - 20} />`}
    ${state === 'gone' && html`<path class="crack" d=${`M${width * 0.8} 0 l-8 18 l14 12 l-12 14 l6 18`} />`}
  </g>`
}

/** What a card's device has in its memory. */
function CardMemory({ memory, width }: { memory: Device['memory']; width: number }) {
  const { budgetBytes, usedBytes, weightBytes, otherBytes, idleBytes } = memory
  const share = (count: number) => (budgetBytes === 0 ? 0 : (width * count) / budgetBytes)
  return html`<g>
    <rect class="free" x="12" y="39" width=${width} height="5" />
    <rect class="weights" x="12" y="39" width=${share(weightBytes)} height="5" />
    <rect class="other" x=${12 + share(weightBytes)} y="39" width=${share(otherBytes)} height="5" />
    <rect class="idle" x=${12 + share(weightBytes + otherBytes)} y="39" width=${share(idleBytes)} height="5" />
    <text class="small" x="12" y="56">${bytesOf(usedBytes, budgetBytes)}</text>
  </g>`
}

/** The width that a box has, whenever it changes. */
function useWidth() {
  const box = useRef<HTMLDivElement>(null)
  const [width, setWidth] = useState(300)
  useEffect(() => {
    const element = box.current
    if (element === null) return
    const observer = new ResizeObserver(() => setWidth(Math.max(200, Math.floor(element.clientWidth))))
    observer.observe(element)
    return () => observer.disconnect()
  }, [])
  return [box, width] as const
}
