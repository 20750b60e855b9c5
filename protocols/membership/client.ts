import { REQUEST_TIMEOUT_MS } from '../constants.ts'
import { JsonStream } from '../json-stream.ts'
import type { Transport } from '../transport.ts'
import { type Rotation, type RotationReply, rotationReply } from './messages.ts'

/** Tells one peer of a change, on a stream of its own; resolves to what the peer says to it. */
export async function tellRotation(
  transport: Transport,
  peerId: string,
  rotation: Rotation
): Promise<RotationReply> {
  const messages = new JsonStream(await transport.newStream(peerId, transport.protocols.membership))
  try {
    await messages.send(rotation)
    const reply = await messages.read(rotationReply, { timeoutMs: REQUEST_TIMEOUT_MS })
    await messages.close()
    return reply
  } catch (error) {
    messages.abort(error as Error)
    throw error
  }
}
