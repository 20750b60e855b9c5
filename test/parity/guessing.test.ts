import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { guessingManifest } from '../../models/guessing.ts'
import { importModel } from '../../models/import/import-model.ts'
import { judgeHuggingFace } from '../../models/import/judge.ts'
import { parseManifest, serializeManifest } from '../../models/manifest.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import { prefillChunks } from '../../models/runtime/hidden.ts'
import type { ForwardOutput, Runtime } from '../../models/runtime/runtime.ts'
import type { Sampling } from '../../models/runtime/sampler.ts'
import { ModelStore } from '../../models/store/store.ts'
import { GuessingDraft } from '../../node/source/draft/guessing-draft.ts'
import { DEEPSEEK, guessingShapes, VOCABULARY, writeDeepseek } from '../fixtures/deepseek.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { type DeepseekConfig, deepseekStates } from '../reference/deepseek.ts'
import { deepseekGuesses } from '../reference/guessing.ts'

const TOKENS = Array.from({ length: 45 }, (_, i) => (i * 23 + 5) % VOCABULARY)
/** Float32 against float64. */
const TOLERANCE = 1e-4
const GREEDY: Sampling = { temperature: 0, topP: 1, seed: 0, topLogprobs: 2 }

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

/** DeepSeek-V3 with its layer that guesses, and GLM-4.7-Flash, whose layers are the same. */
const CASES: [type: string, config: DeepseekConfig, own: Record<string, unknown>][] = [
  ['deepseek_v3', DEEPSEEK, { num_nextn_predict_layers: 1 }],
  [
    'glm4_moe_lite',
    { ...DEEPSEEK, n_group: 1, topk_group: 1, num_hidden_layers: 2 },
    { num_nextn_predict_layers: 1, rope_interleave: true }
  ]
]

async function imported(folder: string, [type, config, own]: (typeof CASES)[number], mtp = true) {
  const dir = `${folder}-checkpoint`
  const tensors = await writeDeepseek(dir, type, config, own, { shapes: guessingShapes(config) })
  const store = await ModelStore.open(`${folder}-store`)
  const notices: string[] = []
  const options = {
    name: 'x',
    checkTokenizer: false,
    mtp,
    onNotice: (notice: string) => void notices.push(notice)
  }
  const { manifest } = await importModel(dir, store, options)
  return { tensors: (name: string) => tensors.get(name)!, config, manifest, store, notices }
}

it.each(CASES)(
  '%s: states and guesses, some tokens ahead, are those of a float64 forward pass',
  async (...one) => {
    await using folder = await temporaryFolder()
    const { tensors, config, manifest, store, notices } = await imported(join(folder.path, 'x'), one)
    expect(notices).toContainEqual(
      expect.stringMatching(/^the layer that guesses further tokens is kept, in 0\.\d MB$/)
    )
    expect(parseManifest(serializeManifest(manifest))).toEqual(manifest)
    const { blobsDir } = store
    const own = guessingManifest(manifest)!
    const whole = await runtime.load({ manifest, range: [0, manifest.layers.length], blobsDir })
    const layer = await runtime.load({ manifest: own, range: [0, 3], blobsDir })

    const drawn: ForwardOutput[][] = []
    const states: Float32Array[] = []
    for (const given of [false, true]) {
      const session = await whole.open({ maxTokens: 64, sampling: GREEDY, states: given })
      const outputs: ForwardOutput[] = []
      for (const [start, end] of [
        ...prefillChunks(40),
        ...prefillChunks(5, 1).map(([a, b]) => [40 + a, 40 + b])
      ]) {
        const input = Int32Array.from(TOKENS.slice(start, end))
        const { computeMs: _, ...output } = await session.forward({
          position: start!,
          input,
          sample: end! >= 40
        })
        if ('states' in output) states.push(output.states!)
        outputs.push({ ...output, computeMs: 0 })
      }
      drawn.push(outputs)
      await session.close()
    }
    // Whoever is told the states draws the same to the bit.
    const without = drawn[1]!.map(({ ...output }) => {
      if ('states' in output) delete output.states
      return output
    })
    expect(without).toEqual(drawn[0])

    const expected = deepseekStates(config, tensors, TOKENS)
    const seen = Float32Array.from(states.flatMap(part => [...part]))
    const away = expected.flatMap(row => [...row]).map((value, i) => Math.abs(value - seen[i]!))
    expect(Math.max(...away)).toBeLessThan(TOLERANCE)

    const batch = await layer.openBatch({ slots: 1, maxTokens: 64 })
    const session = await batch.open({ sampling: GREEDY, states: true })
    const draft = new GuessingDraft({ session, maxTokens: 64, hiddenSize: config.hidden_size })
    await draft.propose(TOKENS.slice(0, 40), 0)
    let position = 0
    for (const part of states) {
      draft.saw(position, part)
      position += part.length / config.hidden_size
    }
    // The states of 45 tokens are known, and that a 46th follows.
    for (const next of [7, 8, 9, 50]) {
      const conversation = [...TOKENS, next]
      const rows = { states: [...expected], next: conversation.slice(1) }
      const guesses: number[] = []
      while (guesses.length < 4) {
        const made = deepseekGuesses(config, tensors, rows.states, rows.next)
        const last = [...made.logProbabilities.at(-1)!]
        const order = [...last.keys()].sort((a, b) => last[b]! - last[a]!)
        // Where two are alike float32 may have the other.
        expect(last[order[0]!]! - last[order[1]!]!).toBeGreaterThan(TOLERANCE)
        guesses.push(order[0]!)
        rows.states.push(made.states.at(-1)!)
        rows.next.push(order[0]!)
      }
      expect(await draft.propose(conversation, 4)).toEqual(guesses)
      // Guesses that are under way are taken for what was said.
      expect(await draft.propose([...conversation, ...guesses.slice(0, 2)], 2)).toEqual(guesses.slice(2))
    }
    await draft.end()
    await Promise.all([whole.release(), layer.release()])
  }
)

it('the layer is left out unless it is asked for, which changes nothing of the model, and refused where there is none', async () => {
  await using folder = await temporaryFolder()
  const { manifest, notices } = await imported(join(folder.path, 'without'), CASES[0]!, false)
  expect(manifest.guessing).toBeUndefined()
  expect(notices).toContainEqual(
    expect.stringMatching(/^\d+ tensors of layers that guess further tokens are left out$/)
  )
  const other = await imported(join(folder.path, 'with'), CASES[0]!)
  const { guessing, ...same } = other.manifest
  expect(same).toEqual(manifest)
  expect((await readFile(other.store.blobPath(guessing!.layer.sha256))).length).toBe(guessing!.layer.bytes)
  expect(guessingManifest(manifest)).toBeUndefined()

  const refused = async (own: Record<string, unknown>, message: RegExp) => {
    const dir = join(folder.path, JSON.stringify(own).length.toString())
    await writeDeepseek(dir, 'deepseek_v3', DEEPSEEK, own)
    const store = await ModelStore.open(join(folder.path, 'store'))
    const importing = importModel(dir, store, { name: 'x', checkTokenizer: false, mtp: true })
    await expect(importing).rejects.toThrow(message)
    return dir
  }
  const none = /no layer that guesses further tokens can be kept: it has none/
  const dir = await refused({}, none)
  await expect(judgeHuggingFace(dir, { mtp: true })).rejects.toThrow(none)
  const lost = await refused(
    { num_nextn_predict_layers: 1 },
    /can be kept: its tensors, as model\.layers\.3\.eh_proj\.weight, are not there/
  )
  // Before the weights are there an index says which tensors they have.
  const index = (name: string) =>
    writeFile(
      join(lost, 'model.safetensors.index.json'),
      JSON.stringify({ weight_map: { [name]: 'model.safetensors' } })
    )
  await index('model.layers.2.mlp.gate.weight')
  expect(await judgeHuggingFace(lost)).toEqual(['model.safetensors'])
  await expect(judgeHuggingFace(lost, { mtp: true })).rejects.toThrow(/none of its tensors are in model/)
  await index('model.layers.3.eh_proj.qweight')
  expect(await judgeHuggingFace(lost, { mtp: true })).toEqual(['model.safetensors'])
})
