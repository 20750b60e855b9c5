import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { type ByTimedKind, timedKinds } from '../../models/blocks.ts'
import { layerKind } from '../../models/layers.ts'
import { logger } from '../../models/log.ts'
import { hiddenBytes, kvBytesPerToken, stateBytes } from '../../models/runtime/memory.ts'
import { randomManifest } from '../../models/runtime/random-weights.ts'
import type { DetailedTimes } from '../../models/runtime/runtime.ts'
import { writePrivate } from '../mesh/files.ts'
import { type ProfileSubject, profileKey } from './profile-key.ts'

const log = logger('edgeshard:plan')

/** One entry of a scenario's `profiles`, with the sizes of each kind of layer. */
export type DeviceProfile = ByTimedKind<DetailedTimes & LayerSizes>

/** Bytes of one layer's weights, of one token of its output, and of one token in its KV cache. */
export interface LayerSizes {
  weightBytes: number
  activationBytes: number
  kvBytesPerToken: number
  /** Bytes of the states of a sequence. */
  stateBytes: number
}

/** Bytes that cross to the source for one sampled token. */
const TOKEN_BYTES = 4

const ms = z.number().min(0)
const points = z.record(z.string(), ms)
const Times = z.object({
  decodeMs: ms,
  decodeMsPerExtraSequence: ms,
  decodeMsByBatch: points,
  prefillMsPerToken: ms,
  prefillMsByTokens: points,
  decodeMsByContext: points.exactOptional(),
  prefillMsPerTokenByContext: points.exactOptional(),
  weightBytes: ms,
  activationBytes: ms,
  kvBytesPerToken: ms,
  // Older files lack it.
  stateBytes: ms.default(0)
})
const Profile = z.object({ embedding: Times, decoder: Times, head: Times }).catchall(Times)

/**
 * The profile of this device for layers of a shape: what `dir` remembers, else what `measure` finds, which is then
 * remembered; with `fresh` it is measured in any case. Another shape, precision, number of threads, processor or ONNX Runtime is another profile.
 */
export async function deviceProfile(
  subject: ProfileSubject,
  dir: string,
  fresh: boolean,
  measure: (subject: ProfileSubject) => Promise<ByTimedKind<DetailedTimes>>
): Promise<DeviceProfile> {
  const path = join(dir, `${profileKey(subject)}.json`)
  const known = fresh ? undefined : await readProfile(path)
  if (known !== undefined) return known
  const profile = withSizes(subject, rounded(await measure(subject)))
  await writePrivate(path, Buffer.from(JSON.stringify(profile)))
  return profile
}

/** A file that is missing or damaged is none. */
async function readProfile(path: string): Promise<DeviceProfile | undefined> {
  const text = await readFile(path, 'utf8').catch(() => 'null')
  try {
    return Profile.safeParse(JSON.parse(text)).data
  } catch (error) {
    log.passOver("a device's profile is damaged; it is measured anew")(error)
    return undefined
  }
}

/** A tenth of a microsecond is not measured. */
function rounded<T>(times: T): T {
  const round = (_: string, value: unknown) => (typeof value === 'number' ? Number(value.toFixed(4)) : value)
  return JSON.parse(JSON.stringify(times, round))
}

function withSizes(
  { shape, quantization }: ProfileSubject,
  times: ByTimedKind<DetailedTimes>
): DeviceProfile {
  const hidden = hiddenBytes(shape, 1)
  const all = timedKinds(shape).map(({ kind, shape: alike }) => {
    const layer = kind === 'embedding' ? 0 : kind === 'head' ? 2 : 1
    const { layers } = randomManifest({ ...alike, decoderLayers: 1 }, quantization)
    const sizes: LayerSizes = {
      weightBytes: layers[layer]!.bytes,
      activationBytes: kind === 'head' ? TOKEN_BYTES : hidden,
      kvBytesPerToken: layerKind(layer, 1) === 'decoder' ? kvBytesPerToken(alike, 1) : 0,
      stateBytes: stateBytes(alike, [layer, layer + 1])
    }
    return [kind, { ...times[kind]!, ...sizes }]
  })
  return Object.fromEntries(all)
}
