import { join } from 'node:path'
import { z } from 'zod'
import { readJsonObject } from '../../models/formats/files.ts'
import { logger } from '../../models/log.ts'
import { layerProfile } from '../../protocols/directory/record.ts'
import type { LayerProfile } from '../api.ts'
import { writePrivate } from '../mesh/files.ts'
import { type Machine, type ProfileSubject, profileKey, thisMachine } from './profile-key.ts'

const log = logger('edgeshard:plan')

/** Far more than times of three kinds of layers take. */
const MAX_FILE_BYTES = 64 * 1024

const File = z.object({ measuredAtMs: z.number().min(0).max(8.64e15), profile: layerProfile })

export interface RememberedProfile {
  profile: LayerProfile
  /** By this device's clock, which may have been set since. */
  measuredAtMs: number
}

/** Times of layers that earlier runs of the node found, one file for what they hang on. */
export class ProfileFiles {
  readonly #dir: string
  readonly #machine: (subject: ProfileSubject) => Machine

  /** @param machine what the times of such layers are of when they are read, or written */
  constructor(dir: string, machine: (subject: ProfileSubject) => Machine = thisMachine) {
    this.#dir = dir
    this.#machine = machine
  }

  /** What is remembered; a file that is damaged, too large or not of this kind counts as none. */
  async read(subject: ProfileSubject): Promise<RememberedProfile | undefined> {
    try {
      const json = await readJsonObject(this.#path(subject), MAX_FILE_BYTES)
      if (json === undefined) return undefined
      const { measuredAtMs, profile } = File.parse(json)
      const { embedding, decoder, head } = profile
      if (embedding === undefined || decoder === undefined || head === undefined) {
        throw new RangeError('a kind of layer is missing')
      }
      return { measuredAtMs, profile: { embedding, decoder, head } }
    } catch (error) {
      log.passOver('remembered times of layers cannot be read; they are measured anew')(error)
      return undefined
    }
  }

  /** Remembers a profile; the old one stays until the new one is whole. */
  async write(subject: ProfileSubject, remembered: RememberedProfile): Promise<void> {
    await writePrivate(this.#path(subject), Buffer.from(JSON.stringify(remembered))).catch(
      log.passOver('times of layers cannot be remembered; the next start measures them again')
    )
  }

  #path(subject: ProfileSubject): string {
    return join(this.#dir, `layers-${profileKey(subject, this.#machine(subject))}.json`)
  }
}
