import { parentPort, workerData } from 'node:worker_threads'
import type { CompiledGrammar, GrammarCompiler, GrammarMatcher } from '@mlc-ai/web-xgrammar'
import { allowsSome, packMask } from '../runtime/token-mask.ts'
import { type Constraint, grammarOf } from './constraint.ts'
import type { GrammarCall, GrammarReply, GrammarThreadSetup } from './messages.ts'
import { loadXGrammar, wasm } from './xgrammar.ts'

/** Entry of a thread that compiles a grammar for one vocabulary, and says what may follow in answers of that grammar. */
const port = parentPort
if (port === null) throw new Error('models/grammar/thread is the entry of a worker thread')
const { bytes, offsets, vocabSize, endIds } = workerData as GrammarThreadSetup
const { xgrammar, said } = loadXGrammar()
const matchers = new Map<number, { matcher: GrammarMatcher; length: number }>()
let compiler: GrammarCompiler
let compiled: CompiledGrammar | undefined

async function start(): Promise<GrammarReply> {
  const tokens = Array.from({ length: vocabSize }, (_, id) =>
    bytes.slice(offsets[id] ?? 0, offsets[id + 1] ?? 0)
  )
  // Texts are asked for, but what they are made into is bytes.
  const texts = tokens as unknown as string[]
  const info = await xgrammar.TokenizerInfo.createTokenizerInfo(texts, 'RAW', false, vocabSize, endIds)
  compiler = await xgrammar.GrammarCompiler.createGrammarCompiler(info, false)
  return { kind: 'ready' }
}

async function answer(call: GrammarCall): Promise<GrammarReply> {
  switch (call.op) {
    case 'compile':
      compiled?.dispose()
      compiled = undefined
      compiled = await compiler.compileGrammar(grammarOf(JSON.parse(call.constraint) as Constraint))
      return { kind: 'ready' }
    case 'mask':
      return { kind: 'mask', mask: await maskOf(call) }
    case 'close':
      matchers.get(call.answer)?.matcher.dispose()
      matchers.delete(call.answer)
      return { kind: 'ready' }
  }
}

async function maskOf({ answer, keep, tokens }: Extract<GrammarCall, { op: 'mask' }>): Promise<Uint8Array> {
  if (compiled === undefined) throw new Error('no grammar was compiled')
  let state = matchers.get(answer)
  if (state === undefined) {
    state = { matcher: await xgrammar.GrammarMatcher.createGrammarMatcher(compiled, endIds), length: 0 }
    matchers.set(answer, state)
  }
  const { matcher } = state
  if (state.length > keep) matcher.rollBack(state.length - keep)
  state.length = keep
  for (const token of tokens) {
    if (!matcher.acceptToken(token))
      throw new Error(`token ${token} was drawn where the grammar has none such`)
    state.length++
  }
  const mask = await matcher.getNextTokenBitmask()
  const bits = new Uint8Array(mask.buffer, mask.byteOffset, mask.byteLength)
  if (!allowsSome(bits, vocabSize)) throw new Error('nothing that the model can write goes on with this form')
  return packMask(bits)
}

let previous: Promise<unknown> = Promise.resolve()
const reply = (work: () => Promise<GrammarReply>) => {
  previous = previous.then(async () => {
    try {
      port.postMessage(await work())
    } catch (error) {
      const fatal = said.find(text => text.includes('FATAL'))
      const own = error instanceof Error ? error.message : String(error)
      const message = fatal?.replace(/^.*?\.(cc|h):\d+: /s, '') ?? own
      // What WebAssembly has given up within is in no known state.
      const isBroken = error instanceof wasm.RuntimeError || error instanceof RangeError
      port.postMessage({ kind: 'error', message: message.slice(0, 300), isBroken })
    }
    said.length = 0
  })
}

reply(start)
port.on('message', (call: GrammarCall) => reply(() => answer(call)))
