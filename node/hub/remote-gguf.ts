import type { GgufPart } from '../../models/formats/gguf.ts'
import { type HubOptions, readRemote } from './client.ts'
import { RepositoryError } from './errors.ts'
import type { RemoteFile, Repository } from './repository.ts'

/** Opens files of a GGUF model where they are, on the hub, to read their headers. */
export function remoteParts(
  repository: Repository,
  files: readonly RemoteFile[],
  hub: HubOptions
): (path: string) => Promise<GgufPart> {
  return async path => {
    const file = files.find(listed => listed.path === path)
    if (file === undefined) throw new RepositoryError(`${repository.name} has no file ${path}`)
    return {
      path,
      size: file.bytes,
      identity: undefined,
      read: async (offset, into) => {
        let done = 0
        const range = [offset, offset + into.byteLength] as const
        for await (const chunk of readRemote(repository, path, range, hub)) {
          into.set(chunk, done)
          done += chunk.byteLength
        }
        if (done < into.byteLength)
          throw new Error(`${path} ended after ${offset + done} of ${file.bytes} bytes`)
      },
      close: async () => {}
    }
  }
}
