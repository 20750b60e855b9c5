export interface Point {
  x: number
  y: number
}

export interface Layout {
  height: number
  /** Whether each link's figures fit between the cards without lying on another's. */
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
/** What four need for figures at the links that cross in the middle. */
const CROSSING_MIN_WIDTH = 520
/** Few enough to stand in two columns without two links that cross in one place. */
const MAX_LABELLED_IN_COLUMNS = 3
const ROW_GAP = 18
const SIDE_GAP = 16
/** From the border to the cards next to it. */
const MARGIN = 4
/** Above the first card, for the number of tokens. */
const COUNT_HEIGHT = 20
/** Room of a link's figures between two columns, and what a card needs for its own. */
const LABEL_WIDTH = 90
const CARD_MIN_WIDTH = 100

/** Where `count` devices stand in a picture that is `width` pixels wide: on a ring, or in two columns where it is narrow. */
export function layoutOf(count: number, width: number): Layout {
  if (width < RING_MIN_WIDTH) return columns(count, width)
  return count <= MAX_ON_ELLIPSE ? ellipse(count, width) : ring(count, width)
}

/** How far along the link between two of so many devices, by their numbers, its figures stand: of two that cross, one's not in the middle. */
export function labelShare(count: number, from: number, to: number): number {
  return count === 4 && from === 1 && to === 3 ? 0.3 : 0.5
}

/** The first device on the left, the others clockwise; from border to border. */
function ellipse(count: number, width: number): Layout {
  const card = { width: 132, height: CARD_HEIGHT }
  const height = count <= 2 ? CARD_HEIGHT + 2 * COUNT_HEIGHT : count === 3 ? 240 : 260
  const angles = Array.from({ length: count }, (_, i) => Math.PI + (2 * Math.PI * i) / count)
  const xs = spread(angles.map(Math.cos), card.width / 2 + MARGIN, width - card.width / 2 - MARGIN)
  const ys = spread(angles.map(Math.sin), card.height / 2 + MARGIN, height - card.height / 2 - MARGIN)
  const hasRoom = count < 4 || width >= CROSSING_MIN_WIDTH
  return { height, hasRoom, card, middles: xs.map((x, i) => ({ x, y: ys[i]! })) }
}

/** Numbers moved and stretched so that they reach from `least` to `most`; all in the middle where they are the same. */
function spread(numbers: readonly number[], least: number, most: number): number[] {
  const [lowest, highest] = [Math.min(...numbers), Math.max(...numbers)]
  // A sine of half a turn is not quite 0.
  if (highest - lowest < 1e-9) return numbers.map(() => (least + most) / 2)
  return numbers.map(number => least + ((most - least) * (number - lowest)) / (highest - lowest))
}

/** Rows of two, broadest in the middle: a ring whose cards never touch. */
function ring(count: number, width: number): Layout {
  const card = { width: count <= 8 ? 132 : 118, height: CARD_HEIGHT }
  const rows = Math.ceil(count / 2)
  const [nearest, farthest] = [(card.width + SIDE_GAP) / 2, (width - card.width) / 2 - MARGIN]
  const middles = Array.from({ length: count }, (_, i) => {
    const row = Math.floor(i / 2) + 0.5
    const aside = nearest + (farthest - nearest) * Math.sin((Math.PI * row) / rows)
    return { x: width / 2 + (i % 2 === 0 ? -aside : aside), y: row * (card.height + ROW_GAP) }
  })
  return { height: rows * (card.height + ROW_GAP), hasRoom: false, card, middles }
}

function columns(count: number, width: number): Layout {
  const between = (width - LABEL_WIDTH) / 2 - MARGIN
  const hasRoom = count <= MAX_LABELLED_IN_COLUMNS && between >= CARD_MIN_WIDTH
  const card = { width: Math.min(118, hasRoom ? between : (width - 24) / 2.3), height: CARD_HEIGHT }
  const rowHeight = card.height + 44
  const middles = Array.from({ length: count }, (_, i) => ({
    x: count === 1 ? width / 2 : i % 2 === 0 ? card.width / 2 + MARGIN : width - card.width / 2 - MARGIN,
    // The right column is a little lower, so that links to the next row do not lie on one another.
    y: card.height / 2 + COUNT_HEIGHT + rowHeight * (Math.floor(i / 2) + (i % 2 === 0 ? 0 : 0.25))
  }))
  const lowest = Math.max(...middles.map(({ y }) => y))
  return { height: lowest + card.height / 2 + MARGIN, hasRoom, card, middles }
}
