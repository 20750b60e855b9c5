export interface Point {
  x: number
  y: number
}

export interface Layout {
  height: number
  /** For words between the cards. */
  hasRoom: boolean
  /** Of a device's card. */
  card: { width: number; height: number }
  /** Middles of the cards, in the order of the devices. */
  middles: Point[]
}

/** Narrower than this, a ring has no room. */
const RING_MIN_WIDTH = 480
const CARD_HEIGHT = 62

/** Where `count` devices stand in a picture that is `width` pixels wide: on a ring, or in two columns where it is narrow. */
export function layoutOf(count: number, width: number): Layout {
  const isRing = width >= RING_MIN_WIDTH
  const card = { width: isRing && count <= 8 ? 132 : Math.min(118, (width - 24) / 2.3), height: CARD_HEIGHT }
  return isRing ? ring(count, width, card) : columns(count, width, card)
}

function ring(count: number, width: number, card: Layout['card']): Layout {
  const height = Math.max(count <= 1 ? 90 : 240, count * 46)
  const radius = { x: (width - card.width) / 2 - 4, y: (height - card.height) / 2 - 4 }
  const middles = Array.from({ length: count }, (_, i) => {
    if (count === 1) return { x: width / 2, y: height / 2 }
    const angle = ringAngle(i, count)
    return { x: width / 2 + radius.x * Math.cos(angle), y: height / 2 + radius.y * Math.sin(angle) }
  })
  return { height, hasRoom: true, card, middles }
}

/** The first device on the left, the others clockwise. */
function ringAngle(i: number, count: number): number {
  return Math.PI + (2 * Math.PI * i) / count
}

function columns(count: number, width: number, card: Layout['card']): Layout {
  const rowHeight = card.height + 44
  const rows = Math.ceil(count / 2)
  const middles = Array.from({ length: count }, (_, i) => ({
    x: count === 1 ? width / 2 : i % 2 === 0 ? card.width / 2 + 4 : width - card.width / 2 - 4,
    // The right column is half a row lower, so that links to the next row do not lie on one another.
    y: rowHeight * (Math.floor(i / 2) + (i % 2 === 0 ? 0.5 : 0.75))
  }))
  return { height: rowHeight * (count === 1 ? 1 : rows + 0.3), hasRoom: false, card, middles }
}
