import { SHA256 } from '../../models/sha256.ts'
import { RepositoryError } from './errors.ts'

/** A model repository of the hub at a branch, tag or commit. */
export interface Repository {
  name: string
  revision: string
}

/** One file of a repository, as the hub lists it. */
export interface RemoteFile {
  path: string
  bytes: number
  /** What its bytes hash to: SHA-256 for large files, git's own SHA-1 (of a header and the bytes) for small ones. */
  hash: { algorithm: 'sha256' | 'git'; hex: string }
}

/** Entries of a listing, as far as they are used. */
export interface ListedFile {
  type: string
  path: string
  size: number
  oid?: string
  lfs?: { oid: string; size: number }
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,95}\/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$/
const REVISION = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$/
/** Only files of the repository's own folder, and no name that could be anything but a file's. */
const FILE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$/

const SIDE_FILES = new Set([
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'chat_template.jinja'
])

/** `owner/name` or `owner/name@revision`. */
export function parseRepository(text: string): Repository {
  const at = text.indexOf('@')
  const name = at < 0 ? text : text.slice(0, at)
  const revision = at < 0 ? 'main' : text.slice(at + 1)
  if (!NAME.test(name) || name.includes('..')) {
    throw new RepositoryError(
      `${JSON.stringify(text)} is not a repository: give owner/name or owner/name@revision`
    )
  }
  if (!REVISION.test(revision) || revision.includes('..')) {
    throw new RepositoryError(
      `${JSON.stringify(revision)} is not a revision: give a branch, a tag or a commit`
    )
  }
  return { name, revision }
}

/**
 * The files of a repository that an import needs: configuration, tokenizer and safetensors, or one GGUF file.
 *
 * @param gguf name of the GGUF file to take, where the repository has several
 * @throws {RepositoryError} when there is nothing to import, or too much to choose from.
 */
export function chooseFiles({ name }: Repository, listed: ListedFile[], gguf?: string): RemoteFile[] {
  const files = listed.filter(file => file.type === 'file' && FILE.test(file.path))
  const ggufs = files.filter(file => file.path.endsWith('.gguf'))
  if (gguf !== undefined) {
    const chosen = ggufs.find(file => file.path === gguf)
    if (chosen === undefined) throw new RepositoryError(`${name} has no file ${gguf}.${namesOf(ggufs)}`)
    return [remoteFile(chosen)]
  }
  const weights = files.filter(file => file.path.endsWith('.safetensors'))
  if (weights.length === 0 && ggufs.length === 1) return [remoteFile(ggufs[0]!)]
  if (weights.length === 0 && ggufs.length > 1) {
    throw new RepositoryError(`${name} has several GGUF files; choose one with --file.${namesOf(ggufs)}`)
  }
  if (weights.length === 0) throw new RepositoryError(`${name} has neither safetensors nor GGUF files`)
  const sharded = files.some(file => file.path === 'model.safetensors.index.json')
  // A repository may have the same weights once in one file and once in parts.
  const parts = sharded
    ? weights.filter(file => /^model-\d+-of-\d+\.safetensors$/.test(file.path))
    : weights.filter(file => file.path === 'model.safetensors')
  if (parts.length === 0) throw new RepositoryError(`${name} has no model.safetensors.${namesOf(weights)}`)
  const side = files.filter(
    file => SIDE_FILES.has(file.path) || (sharded && file.path === 'model.safetensors.index.json')
  )
  return [...side, ...parts].map(remoteFile)
}

function remoteFile({ path, size, oid, lfs }: ListedFile): RemoteFile {
  const sha256 = SHA256.exec(lfs?.oid ?? '')?.[0]
  const git = /^[0-9a-f]{40}$/.exec(oid ?? '')?.[0]
  const bytes = lfs?.size ?? size
  if (
    !Number.isSafeInteger(bytes) ||
    bytes < 0 ||
    (sha256 === undefined && (git === undefined || lfs !== undefined))
  ) {
    throw new RepositoryError(`the hub does not say what ${path} hashes to, so it cannot be checked`)
  }
  const hash =
    sha256 === undefined
      ? { algorithm: 'git' as const, hex: git! }
      : { algorithm: 'sha256' as const, hex: sha256 }
  return { path, bytes, hash }
}

function namesOf(files: ListedFile[]): string {
  const names = files.slice(0, 20).map(file => file.path)
  return names.length === 0 ? '' : ` It has ${names.join(', ')}${files.length > 20 ? ', …' : ''}.`
}
