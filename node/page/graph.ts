import { useEffect, useRef, useState } from 'preact/hooks'
import type { LinkState } from '../api.ts'
import type { Connection } from './connection.ts'
import { type Device, howKnown, isUnsure, type Link, nameOf, OLD_MS } from './devices.ts'
import { bytesOf, cut, rate, shortRange, time } from './format.ts'
import { html } from './html.ts'
import { type Layout, layoutOf, type Point } from './layout.ts'
import { Travel, Way } from './travel.ts'

/** With more devices than this, figures beside the links would lie on one another: they are in the table. */
const MAX_LABELLED = 5

interface LinkProps {
  link: Link
  from: Point
  to: Point
}

/** Devices as cards, links between them as wide as they are fast. The same is in the tables below. */
export function Graph({
  devices,
  links,
  connection
}: {
  devices: readonly Device[]
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
  return html`<div class="graph" ref=${box}>
    <svg width=${width} height=${layout.height} role="img" aria-label=${label}>
      ${drawn.map(
        ({ key, ...ends }) =>
          html`<${LinkLine} key=${key} ...${ends} title=${`${nameOf(devices, ends.link.a)} and ${nameOf(devices, ends.link.b)}`} />`
      )}
      <${Way} connection=${connection} places=${places} />
      ${
        layout.hasRoom &&
        devices.length <= MAX_LABELLED &&
        drawn.map(({ key, ...ends }) => html`<${LinkLabel} key=${key} ...${ends} />`)
      }
      ${devices.map(
        (device, i) =>
          html`<${Card} key=${device.peerId} device=${device} middle=${layout.middles[i]} card=${layout.card} />`
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

/** A link's figures; above the way of a token, which goes along the same line. */
function LinkLabel({ link: { there, back }, from, to }: LinkProps) {
  const rttMs = Math.min(...[there, back].flatMap(link => (link === undefined ? [] : [link.rttMs])))
  const [x, y] = [(from.x + to.x) / 2, (from.y + to.y) / 2]
  return html`<g class="link">
    <text x=${x} y=${y - 3}>${ratesOf(there, back)}</text>
    <text x=${x} y=${y + 11}>${time(rttMs)}</text>
  </g>`
}

/** 1 Mbps a hair, 10 Gbps as broad as a finger's nail. */
function widthFor(mbps: number): number {
  return Math.min(9, 1 + 2 * Math.max(0, Math.log10(mbps)))
}

function ratesOf(there: LinkState | undefined, back: LinkState | undefined): string {
  const one = there === undefined ? '?' : rate(there.mbps)
  const other = back === undefined ? '?' : rate(back.mbps)
  return one === other ? one : `${one} / ${other}`
}

function describe(link: LinkState): string {
  return [rate(link.mbps), time(link.rttMs), howKnown(link)].filter(text => text !== '').join(', ')
}

function Card({ device, middle, card }: { device: Device; middle: Point; card: Layout['card'] }) {
  const { name, state, memory, layers, colour, isSelf, isDraining } = device
  const { width, height } = card
  const share = (count: number) =>
    memory.budgetBytes === 0 ? 0 : ((width - 20) * count) / memory.budgetBytes
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
    <title>${name}${isSelf ? ', this node' : ''}: ${what}, ${bytesOf(memory.usedBytes, memory.budgetBytes)}</title>
    <rect class="frame" width=${width} height=${height} rx="8" />
    <rect class="mark" width="5" height=${height - 16} x="0" y="8" />
    <text class="name" x="12" y="18">${cut(name, maxChars)}</text>
    <text x="12" y="33">${cut(what, maxChars)}</text>
    <rect class="free" x="12" y="39" width=${width - 20} height="5" />
    <rect class="weights" x="12" y="39" width=${share(memory.weightBytes)} height="5" />
    <rect class="other" x=${12 + share(memory.weightBytes)} y="39" width=${share(memory.otherBytes)} height="5" />
    <rect class="idle" x=${12 + share(memory.weightBytes + memory.otherBytes)} y="39" width=${share(memory.idleBytes)} height="5" />
    <text class="small" x="12" y="56">${bytesOf(memory.usedBytes, memory.budgetBytes)}</text>
    ${state === 'gone' && html`<path class="crack" d=${`M${width * 0.55} 0 l-8 18 l14 12 l-12 14 l6 18`} />`}
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
