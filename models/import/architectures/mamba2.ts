/** Names that GGUF files give the tensors of a Mamba 2 layer, whatever the family. */
export const MAMBA2_GGUF_NAMES = {
  recurrence_in: ['blk.#.ssm_in.weight'],
  rates: ['blk.#.ssm_in.weight'],
  rate_bias: ['blk.#.ssm_dt.bias'],
  decay: ['blk.#.ssm_a'],
  convolution: ['blk.#.ssm_conv1d.weight'],
  convolution_bias: ['blk.#.ssm_conv1d.bias'],
  skip: ['blk.#.ssm_d'],
  recurrence_norm: ['blk.#.ssm_norm.weight'],
  recurrence_output: ['blk.#.ssm_out.weight']
}
