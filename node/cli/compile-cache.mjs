// Where Node keeps what it has compiled. Plain JavaScript that Node 20 understands: the launcher settles it before anything
// else is loaded, so that a command's own files are among what is kept.
import module from 'node:module'
import { homedir } from 'node:os'
import { join } from 'node:path'

/**
 * Names the folder in the environment, for the processes that this one starts, and undefined where there is none: it
 * cannot be known, for want of a home. In a folder of the user's own, for what is read from it is run. Where it cannot be
 * written Node compiles as ever.
 */
export function nameCompileCache() {
  const dir = process.env.NODE_COMPILE_CACHE ?? ownFolder()
  if (dir !== undefined) process.env.NODE_COMPILE_CACHE = dir
  return dir
}

/** Lets this process keep what it compiles from now on, for the next command: half of a command's start is that. */
export function keepCompiled() {
  const dir = nameCompileCache()
  if (dir !== undefined) module.enableCompileCache(dir)
}

function ownFolder() {
  try {
    return join(cacheDir(), 'edgeshard', 'compiled')
  } catch {
    // A user that the system does not know, without HOME, as in a container: a command may need no home at all.
    return undefined
  }
}

function cacheDir() {
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Caches')
  if (process.platform === 'win32') return process.env.LOCALAPPDATA ?? join(homedir(), 'AppData', 'Local')
  return process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache')
}
