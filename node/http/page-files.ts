import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import module, { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { oneModule } from './page-module.ts'

/** A file of the page as it is sent. */
export interface PageFile {
  body: string
  contentType: string
  etag: string
}

/** All files of the page by their paths, and what its document may do. */
export interface PageFiles {
  files: ReadonlyMap<string, PageFile>
  /** Value of Content-Security-Policy. */
  policy: string
}

const PAGE = '/page/'
const LIBRARIES = '/page/lib/'
const SCRIPT = 'text/javascript; charset=utf-8'
/** Published code is compiled; in a checkout its types are left out, as when Node runs it. */
const EXTENSION = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
const ROOT = new URL('../../', import.meta.url)
/** Two folders up from here in a checkout, three when compiled. */
const STATIC = new URL(EXTENSION === 'ts' ? 'node/page/static/' : '../node/page/static/', ROOT)
const STATIC_TYPES = {
  'style.css': 'text/css; charset=utf-8',
  'icon.svg': 'image/svg+xml'
}

/** Kept libraries, as browsers take them: what the import map of index.html says stands behind a name. */
const { resolve } = createRequire(import.meta.url)
const libraryFiles: Record<string, () => string> = {
  'preact.js': () => resolve('preact'),
  'hooks.js': () => resolve('preact/hooks'),
  'htm.js': () => join(dirname(resolve('htm')), 'htm.module.js')
}

/** Reads the page: its document, and one module of all that it comes to import, from the disk and nowhere else. */
export async function readPage(): Promise<PageFiles> {
  const files = new Map<string, PageFile>()
  for (const [name, type] of Object.entries(STATIC_TYPES)) {
    files.set(`${PAGE}${name}`, fileOf(await readFile(new URL(name, STATIC), 'utf8'), type))
  }
  for (const [name, find] of Object.entries(libraryFiles)) {
    files.set(`${LIBRARIES}${name}`, fileOf(await readFile(pathToFileURL(find()), 'utf8'), SCRIPT))
  }
  files.set(`${PAGE}main.js`, fileOf(await oneModule(`node/page/main.${EXTENSION}`, moduleCode), SCRIPT))
  const document = await readFile(new URL('index.html', STATIC), 'utf8')
  files.set('/', fileOf(document, 'text/html; charset=utf-8'))
  return { files, policy: policyFor(document) }
}

async function moduleCode(path: string): Promise<string> {
  const text = await readFile(fileURLToPath(new URL(path, ROOT)), 'utf8')
  return withoutComments(EXTENSION === 'ts' ? withoutTypes(text) : text)
}

/** Code without the comments that have lines of their own, and without what types leave of theirs: browsers read neither. */
function withoutComments(code: string): string {
  return code.replace(/^[ \t]*(?:\/\*\*(?:(?!\*\/)[\s\S])*\*\/|\/\/.*)?[ \t]*\n/gm, '')
}

/**
 * Node calls this an experiment, though it has just run this very file by it: nobody who opens a page need hear
 * of that. An older Node, which has no such function, runs compiled code alone.
 */
function withoutTypes(text: string): string {
  const { emitWarning } = process
  process.emitWarning = () => {}
  try {
    return module.stripTypeScriptTypes(text)
  } finally {
    process.emitWarning = emitWarning
  }
}

/**
 * Nothing but what this node serves: no inline script but the import map, no inline style, no frame, and no text that
 * becomes HTML.
 */
function policyFor(document: string): string {
  const map = /<script type="importmap">(.*?)<\/script>/s.exec(document)![1]!
  const hash = createHash('sha256').update(map).digest('base64')
  return [
    "default-src 'none'",
    `script-src 'self' 'sha256-${hash}'`,
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'"
  ].join('; ')
}

function fileOf(body: string, contentType: string): PageFile {
  const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`
  return { body, contentType, etag }
}
