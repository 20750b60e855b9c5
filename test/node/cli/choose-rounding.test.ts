import { PassThrough } from 'node:stream'
import { expect, it } from 'vitest'
import { chooseRounding, chooserOf } from '../../../node/cli/choose-rounding.ts'

const OFFER = {
  fileBytes: 19.8e9,
  planned: { storeBytes: 28.3e9, relativeError: 0 },
  others: [
    { quantize: 'q4', blockSize: 32, storeBytes: 22e9, relativeError: 0.079 },
    { quantize: 'q4', storeBytes: 18.6e9, relativeError: 0.0912 }
  ]
} as const

/** What is chosen by the lines that are typed, one a question, before the input ends; and what is on the screen then. */
async function chosen(...lines: string[]) {
  const input = new PassThrough()
  const output = new PassThrough()
  let screen = ''
  output.on('data', chunk => {
    screen += chunk
    if (!String(chunk).includes('Which one?')) return
    const line = lines.shift()
    if (line === undefined) input.end()
    else input.write(`${line}\n`)
  })
  const { signal } = new AbortController()
  return { rounding: await chooseRounding(OFFER, { input, output, signal }), screen }
}

it('shows what each way takes and costs, and takes the one that is named', async () => {
  const { rounding, screen } = await chosen('2')
  expect(rounding).toEqual({ quantize: 'q4', blockSize: 32 })
  expect(screen).toMatch(/The file has 19\.80 GB/)
  expect(screen).toMatch(/1 {2}its own values +28\.30 GB {2}1\.43 times, exact/)
  expect(screen).toMatch(/2 {2}--quantize q4 --block 32 +22\.00 GB {2}1\.11 times, relative error 7\.90 %/)
  expect(screen).toMatch(/3 {2}--quantize q4 +18\.60 GB {2}0\.94 times, relative error 9\.12 %/)
  expect((await chosen('3')).rounding).toEqual({ quantize: 'q4' })
})

it.each([
  ['Enter', ['']],
  ['its number', ['1']],
  ['the end of the input', []]
])('keeps the values at %s', async (_, lines) => {
  expect((await chosen(...lines)).rounding).toBeUndefined()
})

it('asks again for what is no choice', async () => {
  const { rounding, screen } = await chosen('0', '4', 'q4', '3')
  expect(rounding).toEqual({ quantize: 'q4' })
  expect(screen.match(/Which one\?/g)).toHaveLength(4)
})

it('ends with an interrupt', async () => {
  const asking = { input: new PassThrough(), output: new PassThrough() }
  const signal = AbortSignal.abort(new Error('interrupted'))
  await expect(chooseRounding(OFFER, { ...asking, signal })).rejects.toThrow('interrupted')
})

it('asks nobody where a program reads', () => {
  expect(chooserOf({ json: true }, new AbortController().signal)).toEqual({})
})
