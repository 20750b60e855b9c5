export interface Point {
  x: number
  y: number
}

export interface Layout {
  height: number
  /** Whether words fit between the cards. */
  hasRoom: boolean
  /** The size of a device's card. */
  card: { width: number; height: number }
  /** Middles of the cards, in the order of the devices. */
  middles: Point[]
}

/** Narrower than this, a ring has no room. */
const RING_MIN_WIDTH = 440
const CARD_HEIGHT = 62

/** Few enough to stand on an ellipse without touching. */
const MAX_ON_ELLIPSE = 4
const ROW_GAP = 18
const SIDE_GAP = 16

/** Where `count` devices stand in a picture that is `width` pixels wide: on a ring, or in two columns where it is narrow. */
export function layoutOf(count: number, width: number): Layout {
  if (width < RING_MIN_WIDTH) return columns(count, width)
  return count <= MAX_ON_ELLIPSE ? ellipse(count, width) : ring(count, width)
}

/** The first device on the left, the others clockwise. */
function ellipse(count: number, width: number): Layout {
  const card = { width: 132, height: CARD_HEIGHT }
  const height = count <= 1 ? 90 : 240
  const radius = { x: (width - card.width) / 2 - 4, y: (height - card.height) / 2 - 4 }
  const middles = Array.from({ length: count }, (_, i) => {
    if (count === 1) return { x: width / 2, y: height / 2 }
    const angle = Math.PI + (2 * Math.PI * i) / count
    return { x: width / 2 + radius.x * Math.cos(angle), y: height / 2 + radius.y * Math.sin(angle) }
  })
  return { height, hasRoom: true, card, middles }
}

/** Rows of two, broadest in the middle: a ring whose cards never touch. */
function ring(count: number, width: number): Layout {
  const card = { width: count <= 8 ? 132 : 118, height: CARD_HEIGHT }
  const rows = Math.ceil(count / 2)
  const [nearest, farthest] = [(card.width + SIDE_GAP) / 2, (width - card.width) / 2 - 4]
  const middles = Array.from({ length: count }, (_, i) => {
    const row = Math.floor(i / 2) + 0.5
    const aside = nearest + (farthest - nearest) * Math.sin((Math.PI * row) / rows)
    return { x: width / 2 + (i % 2 === 0 ? -aside : aside), y: row * (card.height + ROW_GAP) }
  })
  return { height: rows * (card.height + ROW_GAP), hasRoom: true, card, middles }
}

function columns(count: number, width: number): Layout {
  const card = { width: Math.min(118, (width - 24) / 2.3), height: CARD_HEIGHT }
  const rowHeight = card.height + 44
  const rows = Math.ceil(count / 2)
  const middles = Array.from({ length: count }, (_, i) => ({
    x: count === 1 ? width / 2 : i % 2 === 0 ? card.width / 2 + 4 : width - card.width / 2 - 4,
    // The right column is a little lower, so that links to the next row do not lie on one another.
    y: rowHeight * (Math.floor(i / 2) + (i % 2 === 0 ? 0.5 : 0.75))
  }))
  return { height: rowHeight * (count === 1 ? 1 : rows + 0.3), hasRoom: false, card, middles }
}
