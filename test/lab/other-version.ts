import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PROTOCOLS, type ProtocolName } from '../../protocols/versions.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** A copy of this project as another version of it would be: everything real, but one protocol's number and its own. */
export interface OtherVersion extends AsyncDisposable {
  /** Its command line. */
  cli: string
}

/** @param by - what is added to the number of the protocol's id */
export async function otherVersion(
  protocol: ProtocolName,
  by: number,
  version: string
): Promise<OtherVersion> {
  const folder = await mkdtemp(join(tmpdir(), 'eslab-version-'))
  for (const part of ['node', 'protocols', 'models']) {
    await cp(join(ROOT, part), join(folder, part), { recursive: true })
  }
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  const manifest = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as object
  await writeFile(join(folder, 'package.json'), JSON.stringify({ ...manifest, version }))
  const constants = join(folder, 'protocols', protocol, 'constants.ts')
  const [id] = PROTOCOLS[protocol]
  const at = id.lastIndexOf('/') + 1
  const other = `${id.slice(0, at)}${Number(id.slice(at)) + by}`
  const text = await readFile(constants, 'utf8')
  if (!text.includes(`'${id}'`)) throw new Error(`${constants} does not have ${id}`)
  await writeFile(constants, text.replace(`'${id}'`, `'${other}'`))
  return {
    cli: join(folder, 'node/cli/edgeshard.mjs'),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true })
  }
}
