import { createHash } from 'node:crypto'
import { type ProfileSubject, profileKey } from '../profile/profile-key.ts'
import { VERSION } from '../version.ts'

/** A hash of all that trying a GPU hangs on: what a profile of the CPU does, the driver, and this program. */
export function probeKey(subject: ProfileSubject, driver: string): string {
  return createHash('sha256')
    .update(JSON.stringify([profileKey(subject), driver, VERSION]))
    .digest('hex')
}
