import { setFlagsFromString } from 'node:v8'

/** The V8 in which the fault was seen, that of Node 24; another may not know the flag, and would say so at every start. */
const V8_WITH_FAULT = '13.6.'

/** The greatest number of calls that V8 counts to. */
const NEVER = 2 ** 31 - 1

// The wrappers that V8 compiles for what WebAssembly imports are shared by all threads of a process, and it may free one
// while another thread compiles or calls it: the process ends by SIGTRAP ("Check failed: jit_page.has_value()") or SIGSEGV
// (nodejs/node #64500). Node strips types in WebAssembly, so in every thread that is started from sources. Until a wrapper
// was called often enough to be compiled a generic one serves, which nobody frees: it serves on.
if (process.versions.v8.startsWith(V8_WITH_FAULT))
  setFlagsFromString(`--wasm-wrapper-tiering-budget=${NEVER}`)
