import { ModelStore } from '../../models/store/store.ts'
import { makeHome } from '../home-folder.ts'
import { storeDir } from './home.ts'

/** Opens the model store of a home directory; both are made where they are not there, for their owner alone. */
export async function openStore(home: string): Promise<ModelStore> {
  await makeHome(home)
  return await ModelStore.open(storeDir(home))
}
