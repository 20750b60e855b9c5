import type { LayerProfile } from '../../api.ts'
import type { Peers } from '../../mesh/peers.ts'
import { timesOn, usedName } from '../../record-processors.ts'
import { assumedTimes } from './assumed-times.ts'
import type { Candidate } from './candidate.ts'
import { believedProfile } from './claims.ts'
import type { Corrections } from './corrections.ts'
import { likenedTimes } from './likened-times.ts'
import type { PlacementNeeds } from './planning.ts'

type TimedModel = Pick<PlacementNeeds['model'], 'id' | 'manifest'>

export interface DeviceTimesComponents {
  peers: Pick<Peers, 'peerId' | 'self' | 'known'>
  /** What answers have measured of devices. */
  corrections: Pick<Corrections, 'profileOf' | 'measuredFactor'>
  /** Other devices that may be planned with. */
  others: () => readonly Candidate[]
}

/** Times of a model's layers as this source plans with them: its own, and what it believes of those of others. */
export class DeviceTimes {
  readonly #components: DeviceTimesComponents

  constructor(components: DeviceTimesComponents) {
    this.#components = components
  }

  /** This device's times of a model: as it has timed it, else likened to others', else what its bytes say. */
  own(model: TimedModel): LayerProfile {
    const own = this.#components.peers.self.profiles[model.id]
    return own ?? this.likened(model) ?? assumedTimes(model.manifest)
  }

  /** This device's times by those of a device that has timed the model; undefined where there is none. */
  likened({ id: modelId, manifest }: TimedModel): LayerProfile | undefined {
    const { peers, others } = this.#components
    const records = others().map(({ record }) => record)
    return likenedTimes(peers.self, records, { modelId, assumed: assumedTimes(manifest) })
  }

  /** Devices' times of a model, in order; undefined for those that have never timed it. */
  believed(
    places: readonly { record: Candidate['record']; processor?: string | undefined }[],
    model: TimedModel
  ): (LayerProfile | undefined)[] {
    const { peers, corrections } = this.#components
    const { id: modelId } = model
    // Claims are held to something also while this device has timed nothing.
    const own = this.own(model)
    const fastest = this.#fastest(own, modelId)
    return places.map(({ record, processor }) => {
      const { peerId } = record
      const claimed = timesOn(record, modelId, processor)
      if (peerId === peers.peerId || claimed === undefined) return claimed
      const measured = corrections.profileOf({ peerId, processor, modelId, borrowed: false })
      return measured ?? believedProfile(claimed, own, { fastest })
    })
  }

  /** What the fastest device that answers have measured takes of this node's times. */
  #fastest(own: LayerProfile, modelId: string): number {
    const { peers, corrections } = this.#components
    const ratios = peers.known.map(({ record }) => {
      const { peerId } = record
      const timed = { peerId, processor: usedName(record, modelId), modelId, borrowed: false }
      const factor = corrections.measuredFactor(timed)
      const profile = corrections.profileOf(timed)
      if (factor === undefined || profile?.decoder === undefined || own.decoder === undefined) return 1
      return (factor * profile.decoder.decodeMs) / own.decoder.decodeMs
    })
    return Math.min(1, ...ratios)
  }
}
