// Two hosts whose nodes are of different versions, and what each prints: `node test/lab/versions.ts [protocol]`, by default
// the lease protocol, so that both know what the other has and cannot use it.
import type { MeshState } from '../../node/api.ts'
import { PROTOCOLS, type ProtocolName } from '../../protocols/versions.ts'
import { Lab } from './lab.ts'
import { otherVersion } from './other-version.ts'
import { labProblem } from './permitted.ts'

/** What a host's node has to say of the other one. */
export interface Said {
  peers: string
  state: MeshState
  doctor: string
  notices: string[]
}

/** Runs this version on `new` and one with an older number of the protocol on `old`; what each of them prints. */
export async function twoVersions(protocol: ProtocolName): Promise<Record<'new' | 'old', Said>> {
  await using old = await otherVersion(protocol, -1, '0.0.9')
  await using lab = await Lab.create({ hosts: [{ name: 'new' }, { name: 'old' }] })
  lab.use('old', old.cli)
  const nodes = { new: await lab.up('new'), old: await joined(lab) }
  const said = async (host: 'new' | 'old'): Promise<Said> => {
    const notice = await nodes[host].event(
      ({ event, message }) => event === 'notice' && message?.includes('incompatible') === true
    )
    return {
      peers: await lab.cli(host, ['peers']),
      state: JSON.parse(await lab.cli(host, ['peers', '--json'])) as MeshState,
      // It ends with status 1 where it finds a problem.
      doctor: await lab.cli(host, ['doctor']).catch((error: { stdout?: string }) => error.stdout ?? ''),
      notices: [notice.message!]
    }
  }
  return { new: await said('new'), old: await said('old') }
}

async function joined(lab: Lab) {
  await lab.cli('old', ['join'], await lab.cli('new', ['invite']))
  return await lab.up('old')
}

if (import.meta.main) {
  const asked = process.argv[2] ?? 'lease'
  const problem = labProblem()
  if (!Object.hasOwn(PROTOCOLS, asked)) process.stderr.write(`'${asked}' is no protocol\n`)
  else if (problem !== null) process.stderr.write(`the lab is not possible here: ${problem}\n`)
  else {
    for (const [host, { notices, peers, doctor }] of Object.entries(
      await twoVersions(asked as ProtocolName)
    )) {
      process.stdout.write(
        `== ${host}: the log\n${notices.join('\n')}\n\n== ${host}: edgeshard peers\n${peers}\n`
      )
      process.stdout.write(`== ${host}: edgeshard doctor\n${doctor}\n`)
    }
  }
}
