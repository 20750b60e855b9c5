import { type DeepseekConfig, deepseekLayer } from './deepseek.ts'
import { logSoftmax, rms, type Tensors, times } from './published.ts'

/** What the layer that guesses makes of a row: its state, after the norm that follows it, and what comes next by it. */
export interface Guessed {
  states: Float64Array[]
  logProbabilities: Float64Array[]
}

/**
 * DeepSeek-V3's layer that guesses (its report, section 2.2; vLLM's deepseek_mtp.py), in float64 from a checkpoint's own tensors:
 * row i has what the model made of token i, `states[i]`, and the token that follows it, `next[i]`, and guesses the one behind.
 */
export function deepseekGuesses(
  config: DeepseekConfig,
  tensors: Tensors,
  states: readonly Float64Array[],
  next: readonly number[]
): Guessed {
  const { hidden_size: H, rms_norm_eps: epsilon, num_hidden_layers: layer } = config
  const get = (name: string) => tensors(`model.layers.${layer}.${name}.weight`)
  const table = tensors('model.embed_tokens.weight')
  const joined = next.map((id, i) => {
    const token = rms(table.slice(id * H, (id + 1) * H), get('enorm'), epsilon)
    const hidden = rms(states[i]!, get('hnorm'), epsilon)
    return times(get('eh_proj'), Float64Array.from([...token, ...hidden]))
  })
  const made = deepseekLayer(config, tensors, layer, joined).map(row =>
    rms(row, get('shared_head.norm'), epsilon)
  )
  const output = tensors('lm_head.weight')
  return { states: made, logProbabilities: made.map(row => logSoftmax(times(output, row))) }
}
