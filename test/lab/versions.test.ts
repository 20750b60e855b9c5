import { expect, test } from 'vitest'
import { labProblem } from './permitted.ts'
import { twoVersions } from './versions.ts'

const problem = labProblem()

test.skipIf(problem !== null)(
  'of two versions each says of the other that it is incompatible, and which one to update',
  { timeout: 120_000 },
  async () => {
    const said = await twoVersions('lease')
    const words = {
      new: 'version 0.0.9, update it: its lease protocol is',
      old: /version [\d.]+, update this device, which runs 0\.0\.9: its lease protocol is/
    }
    for (const host of ['new', 'old'] as const) {
      const { peers, state, doctor, notices } = said[host]
      expect(state.peers).toMatchObject([{ state: 'incompatible', connected: false }])
      expect(state.peers[0]!.reason).toMatch(words[host])
      expect(notices[0]).toMatch(words[host])
      expect(peers).toContain('incompatible (version')
      expect(doctor).toMatch(/is incompatible \(version/)
    }
  }
)
