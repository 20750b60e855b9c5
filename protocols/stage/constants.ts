/** Rises with every change of the frames: a reader knows each of their bytes. */
export const STAGE_PROTOCOL = '/edgeshard/stage/4'

/** Hidden states of one frame: a prefill chunk of a 16,384 wide model is 32 MiB. */
export const MAX_FRAME_TOKENS = 512
export const MAX_HIDDEN_SIZE = 16_384
/** Sessions of one micro-batch. */
export const MAX_FRAME_ROWS = 256
/** Stages that a frame has passed. */
export const MAX_FRAME_TIMINGS = 256
/** Payload, a session, of every frame that is not hidden states: a token with 20 alternatives, an error's text. */
export const MAX_SMALL_PAYLOAD_BYTES = 2048

/** Payload bytes handed on but not yet consumed before a stage stream is paused; streams with any have equal shares. */
export const MAX_PENDING_FRAME_BYTES = 64 * 1024 * 1024
/** Frames handed on but not yet consumed, per peer: tiny frames cost objects, not bytes. */
export const MAX_PENDING_FRAMES = 1024
/** Frames for unknown sessions, per second: a cancelled answer leaves a few under way, a flood does not pass. */
export const MAX_REFUSED_FRAMES_PER_SECOND = 2000

/** Within a frame something comes at least so often: half of one holds memory. */
export const FRAME_STALL_TIMEOUT_MS = 15_000

/** Bytes that wait for a turn on the stream to one peer; beyond them `send` refuses. */
export const MAX_QUEUED_SEND_BYTES = 128 * 1024 * 1024
/** Two would do, but an old one may linger while it closes. */
export const MAX_STAGE_STREAMS = 4
