import { timedKind } from '../../../models/blocks.ts'
import type { Manifest } from '../../../models/manifest.ts'
import { weightBytes } from '../../../models/runtime/memory.ts'
import type { NodeRecord } from '../../api.ts'
import { UNTESTED_SPEEDUP } from '../../constants.ts'
import { timesOn } from '../../record-processors.ts'
import type { Placed } from './places.ts'

/** Starting a stage, and reading weights from the disk, where a device has timed neither. */
const START_MS = 500
const DISK_BYTES_PER_MS = 300_000
/** What is beyond, to start a stage or to load a layer, is no time of a device that a plan would use. */
const MOST_MS = 60_000

/** What a device says of what loading takes it. */
export type LoadingDevice = Pick<NodeRecord, 'profiles' | 'processors' | 'stageTimes'>

/**
 * Milliseconds until a stage whose weights are on its device's disk is ready: to start it, and to load its layers. The device
 * has timed both, of layers of that shape, whose files were in its memory; it is believed as far as its other times.
 *
 * @param own what this node says of itself
 */
export function stageLoadMs(
  model: { id: string; manifest: Manifest },
  stage: Pick<Placed, 'processor' | 'layers'>,
  { device, own }: { device: LoadingDevice | undefined; own: LoadingDevice }
): number {
  return startMs(device, own) + layersMs(model, stage, { device, own })
}

function startMs(device: LoadingDevice | undefined, own: LoadingDevice): number {
  const claimed = device?.stageTimes?.startMs
  return claimed === undefined ? START_MS : believed(claimed, own.stageTimes?.startMs)
}

function layersMs(
  { id, manifest }: { id: string; manifest: Manifest },
  { processor, layers: [start, end] }: Pick<Placed, 'processor' | 'layers'>,
  { device, own }: { device: LoadingDevice | undefined; own: LoadingDevice }
): number {
  const times = device && timesOn(device, id, processor)
  let ms = 0
  for (let layer = start; layer < end; layer++) {
    const kind = timedKind(manifest.shape, layer)
    const claimed = times?.[kind]?.loadMs
    ms +=
      claimed === undefined
        ? weightBytes(manifest, [layer, layer + 1]) / DISK_BYTES_PER_MS
        : believed(claimed, own.profiles[id]?.[kind]?.loadMs)
  }
  return ms
}

function believed(claimedMs: number, ownMs = 0): number {
  return Math.min(MOST_MS, Math.max(claimedMs, ownMs / UNTESTED_SPEEDUP))
}
