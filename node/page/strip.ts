import { layerRange, time } from './format.ts'
import { html } from './html.ts'

/** A part of a step: a stage, or the way to the next one. */
export interface StripStage {
  peerId: string
  name: string
  layers: readonly [number, number]
  computeMs: number
  colour: number
}

/** Stages and ways side by side, as broad as they take time; the same is in the table below it. */
export function Strip({ stages, linksMs }: { stages: readonly StripStage[]; linksMs: readonly number[] }) {
  return html`<div class="strip" aria-hidden="true">
    ${stages.map(
      ({ peerId, name, layers, computeMs, colour }, i) => html`
        <div class=${`stage c${colour}`} key=${`${peerId} ${i}`} style=${{ flexGrow: grow(computeMs) }} title=${`${name}: ${layerRange(layers)}, ${time(computeMs)}`}>
          <b>${name}</b>
          <span>${layers[0]}–${layers[1] - 1}</span>
        </div>
        ${
          linksMs[i] !== undefined &&
          html`<div class="way" key=${`way ${i}`} style=${{ flexGrow: grow(linksMs[i]!) }} title=${`on the way: ${time(linksMs[i]!)}`}></div>`
        }`
    )}
  </div>`
}

/** Something that takes no time is seen still. */
function grow(ms: number): number {
  return Math.max(ms, 0.001)
}
