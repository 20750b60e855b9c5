import { MAX_REPLANS } from '../../constants.ts'
import { StageLostError } from '../../errors.ts'
import { OfferRefusedError } from './recruit.ts'

/** What one request has met so far. */
export interface PlacingHistory {
  /** Devices whose memory another source was faster to get: not asked again unless this one waits for it. */
  refused: ReadonlySet<string>
  /** Devices that are gone or failed. */
  failed: ReadonlySet<string>
  /** Why this is not the first plan. */
  failure: Error | undefined
}

export interface PlaceSteps<P, R> {
  /** Throws where no plan is left. */
  plan(history: PlacingHistory): Promise<P>
  recruit(plan: P): Promise<R>
}

/**
 * Plans and recruits until that works: a source that is refused plans again without that offer.
 *
 * @throws what `plan` throws when there is none, what `recruit` threw after MAX_REPLANS more plans
 */
export async function place<P, R>({ plan, recruit }: PlaceSteps<P, R>): Promise<{ plan: P; recruited: R }> {
  const refused = new Set<string>()
  const failed = new Set<string>()
  let failure: Error | undefined
  for (let attempt = 0; ; attempt++) {
    const planned = await plan({ refused, failed, failure })
    try {
      return { plan: planned, recruited: await recruit(planned) }
    } catch (error) {
      if (attempt >= MAX_REPLANS) throw error
      if (error instanceof OfferRefusedError) refused.add(error.peerId)
      else if (error instanceof StageLostError) failed.add(error.peerId)
      else throw error
      failure = error
    }
  }
}
