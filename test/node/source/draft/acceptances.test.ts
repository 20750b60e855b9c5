import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Acceptances } from '../../../../node/source/draft/acceptances.ts'
import { temporaryFolder } from '../../../fixtures/folder.ts'

const idOf = (n: number) => n.toString(16).padStart(64, '0')
const PAIR = { modelId: idOf(1), drafter: idOf(2) }

test('guesses are counted for each model and what drafts for it, and known to the next run', async () => {
  await using folder = await temporaryFolder()
  const acceptances = new Acceptances(folder.path)
  expect(await acceptances.share(PAIR)).toBeUndefined()
  await acceptances.count(PAIR, { guesses: 60, held: 45 })
  await acceptances.count(PAIR, { guesses: 40, held: 25 })
  await acceptances.count({ ...PAIR, drafter: 'ngram' }, { guesses: 100, held: 10 })
  const next = new Acceptances(folder.path)
  expect(await next.share(PAIR)).toBeCloseTo(0.7)
  expect(await next.share({ ...PAIR, drafter: 'ngram' })).toBeCloseTo(0.1)
  expect(await next.share({ ...PAIR, modelId: idOf(3) })).toBeUndefined()
})

test('a few guesses say nothing, and impossible counts are none', async () => {
  await using folder = await temporaryFolder()
  const acceptances = new Acceptances(folder.path)
  await acceptances.count(PAIR, { guesses: 31, held: 31 })
  expect(await acceptances.share(PAIR)).toBeUndefined()
  for (const [guesses, held] of [
    [0, 0],
    [5, 6],
    [5, -1],
    [Number.NaN, 1],
    [5, Number.NaN]
  ] as const) {
    await acceptances.count(PAIR, { guesses, held })
  }
  expect(await acceptances.share(PAIR)).toBeUndefined()
  await acceptances.count(PAIR, { guesses: 1, held: 1 })
  expect(await acceptances.share(PAIR)).toBe(1)
})

test('what is asked now outweighs what was asked long ago', async () => {
  await using folder = await temporaryFolder()
  const acceptances = new Acceptances(folder.path)
  await acceptances.count(PAIR, { guesses: 1e9, held: 1e9 })
  for (let i = 0; i < 100; i++) await acceptances.count(PAIR, { guesses: 100, held: 20 })
  expect(await acceptances.share(PAIR)).toBeLessThan(0.4)
})

test('so many pairs are kept, the latest', async () => {
  await using folder = await temporaryFolder()
  const acceptances = new Acceptances(folder.path)
  const count = (n: number) =>
    acceptances.count({ modelId: idOf(n), drafter: 'ngram' }, { guesses: 50, held: 5 })
  await Promise.all(Array.from({ length: 256 }, (_, n) => count(n)))
  await count(0)
  await count(256)
  const next = new Acceptances(folder.path)
  const shares = await Promise.all(
    [0, 1, 2, 256].map(n => next.share({ modelId: idOf(n), drafter: 'ngram' }))
  )
  expect(shares).toEqual([0.1, undefined, 0.1, 0.1])
})

test.each([
  ['nothing', ''],
  ['no object', '[]'],
  [
    'a pair of nonsense',
    JSON.stringify({ pairs: [{ modelId: 'x', drafter: 'ngram', guesses: 40, held: 4 }] })
  ],
  ['too much', JSON.stringify({ pairs: [], note: 'x'.repeat(200_000) })],
  ['more held than guessed', JSON.stringify({ pairs: [{ ...PAIR, guesses: 40, held: 41 }] })]
])('a file with %s in it is passed over, and replaced', async (_, text) => {
  await using folder = await temporaryFolder()
  const path = join(folder.path, 'acceptance.json')
  await writeFile(path, text)
  const acceptances = new Acceptances(folder.path)
  expect(await acceptances.share(PAIR)).toBeUndefined()
  await acceptances.count(PAIR, { guesses: 40, held: 4 })
  expect(await new Acceptances(folder.path).share(PAIR)).toBeCloseTo(0.1)
})

test('where nothing can be written what was counted is known until the end', async () => {
  await using folder = await temporaryFolder()
  const path = join(folder.path, 'acceptance.json')
  await mkdir(path)
  const acceptances = new Acceptances(folder.path)
  await acceptances.count(PAIR, { guesses: 40, held: 4 })
  expect(await acceptances.share(PAIR)).toBeCloseTo(0.1)
  await expect(readFile(path)).rejects.toThrow()
})
