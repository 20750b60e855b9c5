import { expect, test } from 'vitest'
import { cutPrompts, ShortTextError } from '../../../node/bench/workload.ts'

const words = Array.from({ length: 400 }, (_, i) => `${i ** 3}`)
const text = words.join(' \n')
/** BOS, then a token for every four characters of a word. */
const countTokens = async (part: string) =>
  1 + part.split(' ').reduce((sum, word) => sum + Math.ceil(word.length / 4), 0)
const options = { promptTokens: 32, prompts: 12, seed: 0, countTokens }

test('prompts have exactly the tokens asked for, and differ', async () => {
  const prompts = await cutPrompts(text, options)
  expect(await Promise.all(prompts.map(countTokens))).toEqual(new Array(12).fill(32))
  expect(new Set(prompts).size).toBe(12)
})

test('the same seed cuts the same prompts, another one others', async () => {
  const [first] = await cutPrompts(text, options)
  expect((await cutPrompts(text, { ...options, prompts: 1 }))[0]).toBe(first)
  expect((await cutPrompts(text, { ...options, seed: 1 }))[0]).not.toBe(first)
})

test('a beginning that no letter completes is left for the next', async () => {
  // Every word is two tokens and its first letter is both: even counts are never met from a beginning of 1.
  const odd = async (part: string) => 1 + 2 * part.split(' ').filter(word => word !== '').length
  await expect(cutPrompts(text, { ...options, countTokens: odd })).rejects.toThrow(ShortTextError)
  const cut = await cutPrompts(text, { ...options, promptTokens: 31, countTokens: odd })
  expect(await odd(cut[0]!)).toBe(31)
})

test('a text that is too short is named', async () => {
  await expect(cutPrompts('a few words', options)).rejects.toThrow(/has 3 words: give one of at least 64/)
})
