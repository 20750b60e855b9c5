import { HubApiError, listFiles } from '@huggingface/hub'
import { DownloadError, RepositoryError } from './errors.ts'
import { type PatientFetchOptions, patientFetch } from './patient-fetch.ts'
import { type ListedFile, POOLING_CARD, POOLING_FOLDER, type Repository } from './repository.ts'

/** Far above what a model's folder holds. */
const MAX_LISTED = 10_000
const HUB_URL = 'https://huggingface.co'

/** Address of the hub, and the token to ask it with. */
export interface HubOptions extends PatientFetchOptions {
  /** @default $HF_ENDPOINT, else https://huggingface.co */
  endpoint?: string
  /** @default $HF_TOKEN */
  token?: string
}

/**
 * The files in a repository's own folder, or in one folder of it.
 *
 * @throws {RepositoryError} when the hub refuses; {DownloadError} when it cannot be reached, or is busy for long.
 */
export async function listRepository(
  { name, revision }: Repository,
  hub: HubOptions,
  folder?: string
): Promise<ListedFile[]> {
  const { hubUrl, accessToken } = credentials(hub)
  const listed: ListedFile[] = []
  try {
    const files = listFiles({
      repo: name,
      revision,
      hubUrl,
      fetch: patientFetch(hub),
      ...(accessToken && { accessToken }),
      ...(folder && { path: folder })
    })
    for await (const file of files) {
      listed.push(file)
      if (listed.length > MAX_LISTED) throw new RepositoryError(`${name} lists more than ${MAX_LISTED} files`)
    }
  } catch (error) {
    hub.signal?.throwIfAborted()
    if (error instanceof RepositoryError) throw error
    const status = error instanceof HubApiError ? error.statusCode : undefined
    throw (
      (status && refusal(`${name}@${revision}`, status, hub)) ??
      new DownloadError(
        `the files of ${name} could not be listed: ${status ? `the hub answers ${status}` : (error as Error).message}`,
        { cause: error }
      )
    )
  }
  return listed
}

/** The same, and the file that says how hidden states become an embedding, which has a folder of its own. */
export async function listForImport(
  repository: Repository,
  hub: HubOptions,
  folder?: string
): Promise<ListedFile[]> {
  const listed = await listRepository(repository, hub, folder)
  if (!listed.some(({ type, path }) => type === 'directory' && path === POOLING_FOLDER)) return listed
  const ofCard = await listRepository(repository, hub, POOLING_FOLDER)
  return [...listed, ...ofCard.filter(({ path }) => path === POOLING_CARD)]
}

/**
 * The bytes [start, end) of one file; of a mirror that knows no ranges, the ones before are passed over.
 *
 * @throws {RepositoryError} when the hub refuses; {Error} when it cannot be reached, or sends another part.
 */
export async function* readRemote(
  { name, revision }: Repository,
  path: string,
  [start, end]: readonly [start: number, end: number],
  hub: HubOptions
): AsyncGenerator<Uint8Array> {
  const { hubUrl, accessToken } = credentials(hub)
  const url = `${hubUrl}/${name}/resolve/${encodeURIComponent(revision)}/${path}`
  const response = await patientFetch(hub)(url, {
    headers: {
      range: `bytes=${start}-${end - 1}`,
      // Lengths and positions count the bytes of the file, not of a compressed one.
      'accept-encoding': 'identity',
      ...(accessToken && { authorization: `Bearer ${accessToken}` })
    }
  })
  const { status, body } = response
  if (status !== 200 && status !== 206) {
    await body?.cancel()
    throw refusal(`${name}@${revision}: ${path}`, status, hub) ?? new Error(`the hub answers ${status}`)
  }
  const [, first] = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '') ?? []
  if (body === null || (status === 206 && Number(first) !== start)) {
    await body?.cancel()
    throw new Error(`the hub sends another part of ${path} than was asked for`)
  }
  let at = status === 206 ? start : 0
  for await (const chunk of body) {
    const from = Math.max(0, start - at)
    const to = Math.min(chunk.byteLength, end - at)
    at += chunk.byteLength
    if (from < to) yield chunk.subarray(from, to)
    if (at >= end) return
  }
}

function credentials({ endpoint, token }: HubOptions): { hubUrl: string; accessToken: string | undefined } {
  const hubUrl = endpoint ?? (process.env.HF_ENDPOINT || HUB_URL)
  const accessToken = token ?? process.env.HF_TOKEN
  if (accessToken && !accessToken.startsWith('hf_')) {
    throw new RepositoryError('HF_TOKEN is not a token of the hub: those begin with hf_')
  }
  if (!URL.canParse(hubUrl)) throw new RepositoryError(`HF_ENDPOINT is no address: ${JSON.stringify(hubUrl)}`)
  return { hubUrl: hubUrl.replace(/\/+$/, ''), accessToken: accessToken || undefined }
}

/** What a status of the hub means for the one who asks; undefined for what says nothing of the repository. */
function refusal(what: string, status: number, { token }: HubOptions): RepositoryError | undefined {
  const anonymous = !(token ?? process.env.HF_TOKEN)
  const hint = anonymous ? '; a private or gated model needs HF_TOKEN' : ''
  if (status === 401 || status === 403) {
    return new RepositoryError(`the hub does not let you read ${what} (${status})${hint}`)
  }
  return status === 404 ? new RepositoryError(`the hub has no ${what}${hint}`) : undefined
}
