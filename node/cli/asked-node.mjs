// Whether a command only asks a node that runs, told before anything is loaded. Plain JavaScript that Node 20 understands.
import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'

/** Commands that ask the node which runs on a home, and start one only where none does. */
const ASKING = ['run', 'chat', 'bench']

/**
 * True where the weights are another process's: what is asked is an address, or the node that has said so on the home. One
 * that was killed has said so, too: then the node that is started for the occasion computes as it is.
 *
 * @param {string[]} words of the command line, the command's name first
 */
export function asksRunningNode([command, ...words]) {
  if (!ASKING.includes(command)) return false
  try {
    return optionOf('--api', words) !== undefined || isAlive(pidOn(homeOf(words)))
  } catch {
    // No home, no file, or a damaged one: the command itself says what is wrong with it.
    return false
  }
}

/**
 * The home as `homeDir` of home.ts finds it.
 *
 * @param {string[]} words of the command line
 */
export function homeOf(words) {
  const asked = optionOf('--home', words) ?? process.env.EDGESHARD_HOME
  if (asked !== undefined && asked !== '') return resolve(asked)
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Application Support', 'edgeshard')
  if (process.platform === 'win32') {
    return join(process.env.LOCALAPPDATA ?? join(homedir(), 'AppData', 'Local'), 'edgeshard')
  }
  return join(process.env.XDG_DATA_HOME ?? join(homedir(), '.local', 'share'), 'edgeshard')
}

/** The last value of an option, as `--name value` or `--name=value`; behind `--` there are none. */
function optionOf(name, words) {
  const end = words.indexOf('--')
  const options = end < 0 ? words : words.slice(0, end)
  return options
    .map((word, at) =>
      word === name ? options[at + 1] : word.startsWith(`${name}=`) ? word.slice(name.length + 1) : undefined
    )
    .findLast(value => value !== undefined)
}

/** The process that said last that it is the home's node. */
function pidOn(home) {
  const path = join(home, 'api.json')
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).pid : undefined
}

function isAlive(pid) {
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    return process.kill(pid, 0)
  } catch (error) {
    // Another user's process is there, too.
    return error.code === 'EPERM'
  }
}
