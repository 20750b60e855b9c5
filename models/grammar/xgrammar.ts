import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { compileFunction } from 'node:vm'
import type * as XGrammar from '@mlc-ai/web-xgrammar'

/** The library, and what it says where it fails: it ends what it does then without an error of its own. */
export interface Loaded {
  xgrammar: typeof XGrammar
  said: string[]
}

interface Memory {
  readonly buffer: ArrayBufferLike
  grow(pages: number): number
}

/** What is used of WebAssembly, of which @types/node declares nothing. */
export const { WebAssembly: wasm } = globalThis as unknown as {
  WebAssembly: { Memory: { prototype: Memory }; RuntimeError: ErrorConstructor }
}

/** What WebAssembly may take in this thread. */
const MAX_PAGES = (512 * 1024 * 1024) / 65_536

/**
 * Loads @mlc-ai/web-xgrammar, WebAssembly within a script of an old form that its package calls a module. It looks at
 * `process` for where it is and at `location` for itself; without the one, and with any other, it needs neither files nor
 * `require`. It changes `WebAssembly.Memory` of its thread, and so belongs in one of its own.
 */
export function loadXGrammar(): Loaded {
  const { grow } = wasm.Memory.prototype
  wasm.Memory.prototype.grow = function (this: Memory, pages: number): number {
    if (this.buffer.byteLength / 65_536 + pages > MAX_PAGES)
      throw new RangeError('a grammar takes too much memory')
    return grow.call(this, pages)
  }
  const path = createRequire(import.meta.url).resolve('@mlc-ai/web-xgrammar')
  const names = ['module', 'exports', 'process', 'location', 'console']
  const script = compileFunction(readFileSync(path, 'utf8'), names, { filename: path })
  const module = { exports: {} }
  const said: string[] = []
  const say = (text: unknown) => said.push(String(text))
  script(module, module.exports, undefined, { href: 'file:///' }, { log: say, warn: say, error: say })
  return { xgrammar: module.exports as typeof XGrammar, said }
}
