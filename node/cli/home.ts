import { homedir } from 'node:os'
import { join, resolve } from 'node:path'

/** Where keys, settings and models live: the option, else $EDGESHARD_HOME, else the platform's data directory. */
export function homeDir(option?: string): string {
  const asked = option ?? process.env.EDGESHARD_HOME
  if (asked !== undefined && asked !== '') return resolve(asked)
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Application Support', 'edgeshard')
  if (process.platform === 'win32') {
    return join(process.env.LOCALAPPDATA ?? join(homedir(), 'AppData', 'Local'), 'edgeshard')
  }
  return join(process.env.XDG_DATA_HOME ?? join(homedir(), '.local', 'share'), 'edgeshard')
}

/** What a person types for a command about this home: with `--home` where a command without it would take another one. */
export function withHome(command: string, home: string): string {
  if (resolve(home) === homeDir()) return command
  return `${command} --home ${/^[\w./\\:@%+=,~-]+$/.test(home) ? home : JSON.stringify(home)}`
}

/** The model store of a home directory. */
export function storeDir(home: string): string {
  return join(home, 'store')
}
