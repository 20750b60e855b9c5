import { describe, expect, it } from 'vitest'
import { parseConfig } from '../../models/import/config.ts'
import { rotaryFrequencies, rotaryTable } from '../../models/runtime/rotary.ts'
import { TINY_CONFIG } from '../fixtures/checkpoint.ts'

const parse = (patch: Record<string, unknown>) => parseConfig({ ...TINY_CONFIG, ...patch }, 'config.json')
const factors = (count: number, value: number) => Array.from({ length: count }, (_, i) => value + i)

describe('YaRN', () => {
  const yarn = { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 32_768 }

  it('has the context, the betas and the factor of attention that its authors give it', () => {
    const { shape, notices } = parse({
      model_type: 'qwen3',
      head_dim: 128,
      max_position_embeddings: 40_960,
      rope_scaling: yarn
    })
    expect(shape.contextLength).toBe(131_072)
    expect(notices).toEqual([expect.stringMatching(/context of 131072 tokens instead of 40960/)])
    expect(shape.rope.scaling).toMatchObject({ betaFast: 32, betaSlow: 1, magnitude: 0.1 * Math.log(4) + 1 })
  })

  it.each([
    [{ attention_factor: 1.25 }, 1.25],
    [{ mscale: 1, mscale_all_dim: 1 }, 1],
    [{ mscale: 0.5, mscale_all_dim: 1 }, (0.05 * Math.log(4) + 1) / (0.1 * Math.log(4) + 1)],
    // As DeepSeek-R1-0528-Qwen3-8B has it.
    [{ attn_factor: 0.8782488562869419 }, 1]
  ])('multiplies cosines and sines as %j says', (numbers, magnitude) => {
    const { rope, headSize } = parse({ rope_scaling: { ...yarn, ...numbers } }).shape
    expect(rope.scaling).toHaveProperty('magnitude', expect.closeTo(magnitude, 12))
    const { cos } = rotaryTable({ rope, rotated: headSize }, 1)
    for (const value of cos) expect(value).toBeCloseTo(magnitude, 6)
  })

  it('keeps what turns often, stretches what turns seldom, and blends what is between', () => {
    const scaling = {
      type: 'yarn',
      factor: 4,
      betaFast: 32,
      betaSlow: 1,
      originalContextLength: 32_768,
      magnitude: 1
    } as const
    const plain = rotaryFrequencies({ rope: { theta: 1e6 }, rotated: 128 })
    const parts = (unrounded: boolean) =>
      rotaryFrequencies({
        rope: { theta: 1e6, scaling: { ...scaling, ...(unrounded && { unrounded }) } },
        rotated: 128
      }).map((value, i) => plain[i]! / value)
    const rounded = parts(false)
    // The pairs that turn 32 times and once within 32,768 tokens, as transformers rounds them: 23 and 40.
    expect(rounded.slice(0, 24)).toEqual(Array(24).fill(1))
    expect(rounded[24]).toBeGreaterThan(1)
    expect(rounded[39]).toBeLessThan(4)
    for (const value of rounded.slice(40)) expect(value).toBeCloseTo(4, 12)
    expect(parts(true)[24]).not.toBe(rounded[24])
  })
})

describe('LongRoPE', () => {
  const config = {
    model_type: 'phi3',
    hidden_size: 128,
    num_attention_heads: 1,
    num_key_value_heads: 1,
    partial_rotary_factor: 0.75,
    max_position_embeddings: 131_072,
    original_max_position_embeddings: 4096
  }

  it('is computed up to the original context, with the factors for it', () => {
    const rope_scaling = { type: 'longrope', short_factor: factors(48, 1), long_factor: factors(48, 2) }
    const { shape, notices } = parse({ ...config, rope_scaling })
    expect(shape.contextLength).toBe(4096)
    expect(notices).toEqual([expect.stringMatching(/texts of more than 4096 tokens otherwise/)])
    const magnitude = Math.sqrt(1 + Math.log(32) / Math.log(4096))
    expect(shape.rope).toEqual({
      theta: 10_000,
      rotated: 96,
      scaling: { type: 'divided', divisors: factors(48, 1), magnitude }
    })
    const turning = { rope: shape.rope, rotated: 96 }
    const plain = rotaryFrequencies({ rope: { theta: 10_000 }, rotated: 96 })
    expect(rotaryFrequencies(turning)).toEqual(plain.map((value, i) => value / (1 + i)))
    expect(rotaryTable(turning, 1).sin[0]).toBe(0)
    expect(rotaryTable(turning, 1).cos[0]).toBeCloseTo(magnitude, 6)
  })

  it.each([
    [
      { short_factor: factors(24, 1), long_factor: factors(48, 1) },
      /24 short factors, but a head has 48 pairs/
    ],
    [{ short_factor: 1, long_factor: [] }, /short_factor is not a list/],
    [{ short_factor: ['1'], long_factor: [] }, /short_factor\.0 is "1"/],
    [{ short_factor: [] }, /longrope lacks a long_factor/]
  ])('refuses %j', (lists, message) => {
    expect(() => parse({ ...config, rope_scaling: { type: 'su', ...lists } })).toThrow(message)
  })
})

it('takes dynamic scaling as far as it changes nothing, and says so', () => {
  const { shape, notices } = parse({ rope_scaling: { type: 'dynamic', factor: 2 } })
  expect(shape).toMatchObject({ rope: { theta: 10_000 }, contextLength: 64 })
  expect(notices).toEqual([expect.stringMatching(/dynamic turns otherwise the longer a text is/)])
})

describe('configurations as they are published', () => {
  const yarn = { type: 'yarn', rope_type: 'yarn', factor: 16, original_max_position_embeddings: 16_384 }
  it.each([
    [
      'Phi-4-mini',
      {
        model_type: 'phi3',
        full_attn_mod: 1,
        interpolate_factor: 1,
        lm_head_bias: false,
        sliding_window: 262_144
      },
      {}
    ],
    [
      'Gemma 2 9B',
      {
        model_type: 'gemma2',
        hidden_act: 'gelu_pytorch_tanh',
        hidden_activation: 'gelu_pytorch_tanh',
        cache_implementation: 'hybrid',
        sliding_window_size: 4096
      },
      { logitSoftcap: 30, headSize: 256, blocks: [{ attention: { softcap: 50 }, norms: 'around' }] }
    ],
    [
      'Gemma 3 27B',
      {
        model_type: 'gemma3_text',
        hidden_act: 'gelu_pytorch_tanh',
        head_dim: 128,
        num_hidden_layers: 12,
        sliding_window: 32,
        query_pre_attn_scalar: 168,
        rope_theta: 1e6,
        rope_scaling: { rope_type: 'linear', factor: 8 }
      },
      {
        layout: [0, 0, 0, 0, 0, 1],
        rope: { theta: 1e6, scaling: { type: 'linear', factor: 8 } },
        blocks: [
          { attention: { window: 32, rope: { theta: 10_000 }, scale: 1 / Math.sqrt(168) } },
          { attention: { scale: 1 / Math.sqrt(168) } }
        ]
      }
    ],
    [
      'Ministral 3',
      {
        model_type: 'ministral3',
        rope_theta: undefined,
        rope_parameters: { ...yarn, mscale: 1, mscale_all_dim: 1, llama_4_scaling_beta: 0.1, rope_theta: 1e6 }
      },
      { contextLength: 262_144, blocks: [{ attention: { queryGrowth: { factor: 0.1, tokens: 16_384 } } }] }
    ]
  ])('%s', (_, patch, expected) => {
    expect(parse(patch).shape).toMatchObject(expected)
  })

  it('reads the same of Gemma 3 as transformers 4 and 5 write it', () => {
    const { rope_theta: _, ...rest } = TINY_CONFIG
    const gemma = { ...rest, model_type: 'gemma3_text', hidden_act: 'gelu_pytorch_tanh', sliding_window: 32 }
    const linear = { rope_type: 'linear', factor: 8 }
    const older = { rope_theta: 1e6, rope_local_base_freq: 5000, rope_scaling: linear }
    const newer = {
      rope_parameters: {
        full_attention: { ...linear, rope_theta: 1e6 },
        sliding_attention: { rope_type: 'default', rope_theta: 5000 }
      }
    }
    const { shape } = parseConfig({ ...gemma, ...newer }, 'config.json')
    expect(shape).toEqual(parseConfig({ ...gemma, ...older }, 'config.json').shape)
    expect(shape.blocks[0]!.attention.rope).toEqual({ theta: 5000 })
    const stretched = { ...newer.rope_parameters, sliding_attention: linear }
    expect(() => parseConfig({ ...gemma, rope_parameters: stretched }, 'config.json')).toThrow(
      /rope_parameters\.sliding_attention: rope scaling of windows is not supported/
    )
  })

  it.each([
    [{ model_type: 'phi3', lm_head_bias: true }, /lm_head_bias true for phi3 is not supported/],
    [{ model_type: 'seed_oss', attention_out_bias: true }, /attention_out_bias true for seed_oss/],
    [{ model_type: 'granite', residual_multiplier: 0 }, /residual_multiplier is 0, not a number above 0/],
    [{ model_type: 'smollm3', no_rope_layers: [1] }, /no_rope_layers has 1 entries, but there are 2 layers/],
    [{ model_type: 'exaone4', sliding_window_pattern: 'LGL' }, /sliding_window_pattern is "LGL"/],
    [
      { model_type: 'mistral', rope_scaling: { ...yarn, llama_4_scaling_beta: 0.1 } },
      /llama_4_scaling_beta is not supported for mistral/
    ]
  ])('refuses %j', (patch, message) => {
    expect(() => parse(patch)).toThrow(message)
  })
})

describe('alpha', () => {
  const hunyuan = { model_type: 'hunyuan_v1_dense', head_dim: 16, rope_theta: 10_000 }
  const scaling = {
    type: 'dynamic',
    alpha: 1000,
    factor: 1,
    beta_fast: 32,
    beta_slow: 1,
    mscale: 1,
    mscale_all_dim: 1
  }

  it('makes the base of Hunyuan greater, for any length of a text', () => {
    const { shape, notices } = parse({ ...hunyuan, rope_scaling: scaling })
    expect(shape.rope).toEqual({ theta: expect.closeTo(10_000 * 1000 ** (16 / 14), 3) })
    expect(shape.contextLength).toBe(parse(hunyuan).shape.contextLength)
    expect(notices).toEqual([])
    const { rope_theta, ...unsaid } = hunyuan
    const both = { ...unsaid, rope_parameters: { ...scaling, rope_theta }, rope_scaling: scaling }
    expect(parse(both).shape.rope).toEqual(shape.rope)
  })

  it.each([
    [{ ...hunyuan, rope_scaling: { ...scaling, gamma: 1 } }, /rope_scaling\.(alpha|gamma) is not supported/],
    [{ ...hunyuan, rope_scaling: { ...scaling, alpha: 'much' } }, /rope_scaling\.alpha/],
    [{ ...hunyuan, rope_scaling: { ...scaling, alpha: -2 } }, /alpha is -2, not a number above 0/],
    [
      { ...hunyuan, rope_scaling: scaling, rope_parameters: { ...scaling, alpha: 2, rope_theta: 10_000 } },
      /rope_parameters and rope_scaling differ/
    ],
    [{ ...hunyuan, use_qk_norm: false }, /use_qk_norm false for hunyuan_v1_dense is not supported/],
    [{ ...hunyuan, use_cla: true }, /use_cla true for hunyuan_v1_dense is not supported/],
    [{ rope_scaling: scaling }, /rope_scaling\.alpha is not supported with rope scaling dynamic/]
  ])('is refused with %j', (own, message) => {
    expect(() => parse(own)).toThrow(message)
  })
})

it("YaRN's betas may be equal, as Kimi K2 has them, and not the other way round", () => {
  const scaling = (beta_fast: number) => ({
    rope_scaling: {
      ...{ type: 'yarn', factor: 4, original_max_position_embeddings: 128 },
      beta_fast,
      beta_slow: 2
    }
  })
  const frequencies = (beta: number) => {
    const { rope, headSize } = parse(scaling(beta)).shape
    return rotaryFrequencies({ rope, rotated: headSize })
  }
  expect(frequencies(2).every(Number.isFinite)).toBe(true)
  expect(frequencies(2)).not.toEqual(frequencies(8))
  expect(() => parse(scaling(1))).toThrow(/rope does not fit/)
})
