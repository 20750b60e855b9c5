import { partNames } from '../../models/formats/gguf.ts'
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

/** Folder of sentence-transformers' word on how hidden states become an embedding, and the file there. */
export const POOLING_FOLDER = '1_Pooling'
export const POOLING_CARD = `${POOLING_FOLDER}/config.json`

const SIDE_FILES = new Set([
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  // Moonshot's form of a tokenizer.
  'tiktoken.model',
  'chat_template.jinja',
  'modules.json',
  POOLING_CARD
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

/** What of a repository an import needs. */
export type Choice =
  /** One GGUF model: a file, or all its parts in order. */
  | { format: 'gguf'; files: RemoteFile[] }
  /** All but the weights; an index among them says which those are. */
  | { format: 'safetensors'; files: RemoteFile[]; weights: (indexed?: readonly string[]) => RemoteFile[] }

/**
 * Chooses by its listing what of a repository an import needs: configuration, tokenizer and safetensors, or one GGUF
 * model.
 *
 * @param gguf name of the GGUF file to take, or of any part of one, where the repository has several; its folder may
 * stand before it
 * @throws {RepositoryError} when there is nothing to import, or too much to choose from.
 */
export function chooseFiles({ name }: Repository, listed: ListedFile[], gguf?: string): Choice {
  const folder = folderOf(gguf)
  const files = listed.filter(({ type, path }) => {
    const own = path.startsWith(folder) ? path.slice(folder.length) : ''
    return type === 'file' && (FILE.test(own) || path === POOLING_CARD)
  })
  const models = ggufModels(files)
  if (gguf !== undefined) {
    const chosen = models.find(parts => parts.some(part => part === gguf))
    if (chosen === undefined) throw new RepositoryError(`${name} has no file ${gguf}.${namesOf(models)}`)
    return { format: 'gguf', files: named(name, files, chosen) }
  }
  const weights = files.filter(file => file.path.endsWith('.safetensors'))
  if (weights.length > 0) return chooseSafetensors(name, files)
  const [only, ...others] = models
  if (only === undefined) throw new RepositoryError(`${name} has neither safetensors nor GGUF files`)
  if (others.length > 0) {
    throw new RepositoryError(`${name} has several GGUF files; choose one with --file.${namesOf(models)}`)
  }
  return { format: 'gguf', files: named(name, files, only) }
}

/** The folder that a file's name begins with, and its slash; empty for the repository's own. */
export function folderOf(path: string | undefined): string {
  const folder = path?.slice(0, path.lastIndexOf('/') + 1) ?? ''
  if (
    folder === '' ||
    (folder.length < 200 && folder.split('/').every(part => part === '' || FILE.test(part)))
  ) {
    return folder
  }
  throw new RepositoryError(`${JSON.stringify(folder)} is no folder of a repository`)
}

function chooseSafetensors(name: string, files: ListedFile[]): Choice {
  const paths = files.map(file => file.path)
  for (const needed of ['config.json', 'tokenizer.json']) {
    if (paths.includes(needed) || (needed === 'tokenizer.json' && paths.includes('tiktoken.model'))) continue
    throw new RepositoryError(`${name} has no ${needed}, without which its weights are of no use here.`)
  }
  // A repository may have the same weights once in one file and once in parts: transformers takes the one.
  const whole = paths.includes(WHOLE)
  if (!whole && !paths.includes(INDEX)) {
    const weights = paths.filter(path => path.endsWith('.safetensors'))
    const parts = weights.filter(path => /-\d+-of-\d+\.safetensors$/.test(path))
    if (parts.length === 0 || parts.length !== Number(/(\d+)\.safetensors$/.exec(parts[0]!)![1])) {
      throw new RepositoryError(`${name} has no model.safetensors.${namesOf(weights.map(path => [path]))}`)
    }
    return { format: 'safetensors', files: side(files), weights: () => named(name, files, parts) }
  }
  return {
    format: 'safetensors',
    files: [...side(files), ...(whole ? [] : named(name, files, [INDEX]))],
    weights: indexed => named(name, files, whole ? [WHOLE] : (indexed ?? []))
  }
}

const WHOLE = 'model.safetensors'
const INDEX = 'model.safetensors.index.json'

function side(files: ListedFile[]): RemoteFile[] {
  return files.filter(file => SIDE_FILES.has(file.path)).map(remoteFile)
}

/** The GGUF models in a folder, each with its files; of a split one all parts, whether they are there or not. */
function ggufModels(files: ListedFile[]): string[][] {
  const models = new Map<string, string[]>()
  for (const { path } of files) {
    if (!path.endsWith('.gguf')) continue
    const parts = partNames(path) ?? [path]
    models.set(parts[0]!, parts)
  }
  return [...models.values()]
}

/** Files of a listing by their names, in that order. */
function named(name: string, files: ListedFile[], paths: readonly string[]): RemoteFile[] {
  return paths.map(path => {
    const file = files.find(listed => listed.path === path)
    if (file === undefined) throw new RepositoryError(`${name} lacks ${path}, which is a part of its weights`)
    return remoteFile(file)
  })
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

/** How models may be asked for: by their first files. */
function namesOf(models: string[][]): string {
  const names = models.slice(0, 20).map(([first]) => first)
  return names.length === 0 ? '' : ` It has ${names.join(', ')}${models.length > 20 ? ', …' : ''}.`
}
