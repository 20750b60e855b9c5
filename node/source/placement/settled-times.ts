import type { LayerProfile } from '../../api.ts'
import type { Timed, Work } from './corrections.ts'

/** What a device takes of its profile's times, and beside them, in steps of one sequence and in those that share devices. */
export interface DeviceTimes {
  single: number
  batched: number
  singleTurnMs: number
  batchedTurnMs: number
  /** The same where one stage has all layers. */
  wholeTurnMs: number
}

/** What answers have taught of a device, and of which times. */
export interface Settled {
  timed: Timed
  profile: LayerProfile
  times: DeviceTimes
}

/** What the answers of long ago, and of earlier runs, have settled on: where corrections start that know nothing newer. */
export interface SettledTimes {
  /**
   * Undefined where nothing is kept of a device, or only of other times than `profile`. `share`: what is left of it with
   * time, 1 to 0: its factors and turns have that in them, and of the turns the rest is what the device says.
   */
  of(timed: Timed, profile: LayerProfile | undefined): (DeviceTimes & { share: number }) | undefined
  readonly hopOverheadMs: number | undefined
  /** What a stage takes beside its layers, in the median of the devices that anything is kept of; undefined where that is none. */
  readonly usualTurnsMs: Readonly<Record<Work, number>> | undefined
  settle(devices: readonly Settled[], hopOverheadMs: number): void
  /** How many times as long as expected a model's placements took to load; undefined where nothing is kept of it. */
  loadFactorOf(modelId: string): number | undefined
  settleLoad(modelId: string, factor: number): void
}

export const NOTHING_SETTLED: SettledTimes = {
  of: () => undefined,
  hopOverheadMs: undefined,
  usualTurnsMs: undefined,
  settle() {},
  loadFactorOf: () => undefined,
  settleLoad() {}
}
