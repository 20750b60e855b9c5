import { downloadFile, HubApiError, listFiles } from '@huggingface/hub'
import { RepositoryError } from './errors.ts'
import type { ListedFile, Repository } from './repository.ts'

/** Far above what a model's folder holds. */
const MAX_LISTED = 10_000

/** Address of the hub, and the token to ask it with. */
export interface HubOptions {
  /** @default $HF_ENDPOINT, else https://huggingface.co */
  endpoint?: string
  /** @default $HF_TOKEN */
  token?: string
  signal?: AbortSignal
}

/** The files in a repository's own folder. */
export async function listRepository({ name, revision }: Repository, hub: HubOptions): Promise<ListedFile[]> {
  const listed: ListedFile[] = []
  try {
    for await (const file of listFiles({ repo: name, revision, ...parameters(hub) })) {
      listed.push(file)
      if (listed.length > MAX_LISTED) throw new RepositoryError(`${name} lists more than ${MAX_LISTED} files`)
    }
  } catch (error) {
    throw explained(`${name}@${revision}`, error, hub)
  }
  return listed
}

/** The bytes of one file from `start` on. */
export async function* readRemote(
  { name, revision }: Repository,
  path: string,
  start: number,
  hub: HubOptions
): AsyncGenerator<Uint8Array> {
  let blob: Blob | null
  try {
    // Plain ranges: what was received so far can be continued, and checked with the same hash.
    blob = await downloadFile({ repo: name, revision, path, xet: false, ...parameters(hub) })
  } catch (error) {
    throw explained(`${name}@${revision}: ${path}`, error, hub)
  }
  if (blob === null) throw new RepositoryError(`${name}@${revision} has no file ${path}`)
  const rest = start === 0 ? blob : blob.slice(start, blob.size)
  for await (const chunk of rest.stream()) yield chunk
}

function parameters({ endpoint, token, signal }: HubOptions) {
  const hubUrl = endpoint ?? process.env.HF_ENDPOINT
  const accessToken = token ?? process.env.HF_TOKEN
  if (accessToken && !accessToken.startsWith('hf_')) {
    throw new RepositoryError('HF_TOKEN is not a token of the hub: those begin with hf_')
  }
  const withSignal: typeof fetch = (input, init) =>
    fetch(input, signal === undefined ? init : { ...init, signal })
  return {
    fetch: withSignal,
    ...(hubUrl ? { hubUrl: hubUrl.replace(/\/+$/, '') } : {}),
    ...(accessToken ? { accessToken } : {})
  }
}

function explained(what: string, error: unknown, { token }: HubOptions): unknown {
  if (!(error instanceof HubApiError)) return error
  const anonymous = (token ?? process.env.HF_TOKEN) === undefined
  const hint = anonymous ? '; a private or gated model needs HF_TOKEN' : ''
  if (error.statusCode === 401 || error.statusCode === 403) {
    return new RepositoryError(`the hub does not let you read ${what} (${error.statusCode})${hint}`, {
      cause: error
    })
  }
  if (error.statusCode === 404) return new RepositoryError(`the hub has no ${what}${hint}`, { cause: error })
  return error
}
