/**
 * The stage protocol: hidden states and tokens between the stages of a request, over one long-lived stream for each
 * ordered pair of peers, opened with the first frame and used by all sessions (0.2 ms a hop; a new stream for every
 * frame costs 0.7 ms). Frames of one sender arrive in the order they were sent.
 *
 * @example
 * ```ts
 * const links = await createStageLinks(host, {
 *   allocate: (peerId, header) => stages.get(header.rows[0].sessionId)?.memoryFor(header) ?? null,
 *   onFrame: (peerId, frame) => stages.get(frame.rows[0].sessionId)?.run(frame),
 *   onLost: (peerId, reason) => sessions.stagesLost(peerId, reason)
 * })
 * await links.send(next, { type: 'hidden', rows: [{ sessionId, position }], tokens: 1, hiddenSize: 64, sample: true, timings, hidden })
 * ```
 */
export type { FrameHeader, FrameToken } from './frame.ts'
export { createStageLinks, type StageFrame, type StageHandlers, type StageLinks } from './stage.ts'
