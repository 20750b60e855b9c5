import { access, constants } from 'node:fs/promises'
import { ModelStore } from '../../models/store/store.ts'
import { makeHome } from '../home-folder.ts'
import { InputError } from './errors.ts'
import { storeDir } from './home.ts'

/** Opens the model store of a home directory; both are made where they are not there, for their owner alone. */
export async function openStore(home: string): Promise<ModelStore> {
  await makeHome(home)
  return await ModelStore.open(storeDir(home))
}

/**
 * The model store of a home directory to read from, undefined where there is none: nothing is made, and it may be read-only.
 *
 * @throws {InputError} where this user may not read it
 */
export async function readStore(home: string): Promise<ModelStore | undefined> {
  const dir = storeDir(home)
  try {
    await access(dir, constants.R_OK | constants.X_OK)
    return ModelStore.at(dir)
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    throw new InputError(`cannot read ${dir}: ${UNREADABLE[code] ?? message}`, { cause: error })
  }
}

const UNREADABLE: Readonly<Record<string, string>> = {
  EACCES: 'this user may not; change whose it is, or give another --home',
  EPERM: 'this user may not; change whose it is, or give another --home',
  ENOTDIR: 'a file is in the way; give another --home'
}
