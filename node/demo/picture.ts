import type { MeshState, PlannedStage, Predicted } from '../api.ts'
import { predictedFirstText } from '../first-token.ts'
import { shortId } from '../short-names.ts'
import { formatBytes, formatMs } from '../units.ts'

/**
 * A plan as a picture in text: a box a stage, from the prompt to the token's way back.
 *
 * ```
 *   desktop             laptop              mini-pc
 *   layers [0, 4)  -->  layers [4, 7)  -->  layers [7, 10)
 *   3.1 MiB             2.3 MiB             2.7 MiB
 *   ^-------------------- token -------------------------'
 * ```
 */
export function planPicture(stages: readonly PlannedStage[], predicted: Predicted): string {
  const columns = stages.map(({ name, layers, weightBytes }) => {
    const lines = [name, `layers [${layers[0]}, ${layers[1]})`, formatBytes(weightBytes)]
    const width = Math.max(...lines.map(line => line.length))
    return lines.map(line => line.padEnd(width))
  })
  const rows = [0, 1, 2].map(
    row => `  ${columns.map(lines => lines[row]).join(row === 1 ? '  -->  ' : '       ')}`
  )
  const width = Math.max(...rows.map(row => row.length))
  const label = ' token '
  const dashes = Math.max(2, width - 4 - label.length)
  const left = '-'.repeat(Math.ceil(dashes / 2))
  const right = '-'.repeat(Math.floor(dashes / 2))
  const back = stages.length > 1 ? [`  ^${left}${label}${right}'`] : []
  const times = `  predicted: first token ${predictedFirstText(predicted)}, then ${formatMs(predicted.tpotMs)} a token`
  return [...rows.map(row => row.trimEnd()), ...back, times].join('\n')
}

/** One line a device: name, id, memory, models held. */
export function whoIsThere({ self, peers }: MeshState): string {
  return [{ ...self, note: 'this node' }, ...peers.map(peer => ({ ...peer, note: rtt(peer.rttMs) }))]
    .map(({ name, peerId, memory, models, note }) => {
      const held =
        models.flatMap(({ layers }) => layers.map(([start, end]) => `[${start}, ${end})`)).join(' ') || 'none'
      return `  ${name.padEnd(9)} ${`...${shortId(peerId)}`}  ${formatBytes(memory.budgetBytes).padStart(8)} for stages   layers held: ${held.padEnd(8)}  ${note}`
    })
    .join('\n')
}

function rtt(rttMs: number | null): string {
  return rttMs === null ? 'connected' : `${rttMs.toFixed(1)} ms away`
}
