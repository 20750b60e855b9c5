import { DeadlineError, PeerLostError, RemoteError } from '../../../protocols/errors.ts'
import type { PlannedStage } from '../../api.ts'
import { StageLostError } from '../../errors.ts'

/** What a peer does or leaves undone is a lost stage, named. */
export async function orStageLost<T>(stage: PlannedStage, what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof PeerLostError || error instanceof DeadlineError || error instanceof RemoteError) {
      const { name, peerId } = stage
      throw new StageLostError(`${name} (${peerId}) ${what}: ${error.message}`, peerId, { cause: error })
    }
    throw error
  }
}
