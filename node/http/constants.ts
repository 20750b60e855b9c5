/** Bytes of a request: a conversation that fills a long context is far below. */
export const MAX_BODY_BYTES = 8 << 20
/** Ports tried one after the other when the wanted one is taken. */
export const PORT_ATTEMPTS = 64
/** Requests answered at the same time; more are told to come again. */
export const MAX_CONCURRENT_REQUESTS = 256
/** Loads at the same time: fewer than the requests that may wait for a model (MAX_WAITING_REQUESTS), so that they never fill its line. */
export const MAX_CONCURRENT_LOADS = 16
/** Headers, and a whole request with its body, that take longer to come end their connection: 8 MiB at 1.2 Mbps. */
export const HEADERS_TIMEOUT_MS = 15_000
export const REQUEST_TIMEOUT_MS = 60_000
/** A body of which nothing comes for so long is not waited for. */
export const BODY_SILENCE_MS = 10_000
/** How often the two are looked at. */
export const TIMEOUT_CHECK_MS = 2_000
/** Bytes of bodies that are read at the same time, whoever sends them. */
export const MAX_BODIES_BYTES = 8 * MAX_BODY_BYTES
/** What ends with the server gets its last words out within so long. */
export const LAST_WORDS_MS = 1_000
/** Connections at the same time, where the system permits so many open files. */
export const MAX_CONNECTIONS = 1024
/** Clients that follow /api/events. */
export const MAX_EVENT_CLIENTS = 64
/** Status is decided by the first event other than progress, or after so long: clients wait for headers too. */
export const HEADERS_AFTER_MS = 3_000
/** A comment in the stream so often while nothing else happens: proxies and clients drop silent connections. */
export const HEARTBEAT_MS = 5_000
/** Between two comments that say how far something is; they take the place of heartbeats. */
export const COMMENT_MS = 4_000
/** How long parts of an answer may be gathered for a reader who asks for that. */
export const MAX_GATHER_MS = 1_000
/** A client that takes nothing for so long has lost its answer: the stages are needed by others. */
export const CLIENT_STALL_MS = 60_000
/** How often the mesh is looked at for followers of /api/events. */
export const MESH_INTERVAL_MS = 1_000
/** Steps, and each device's progress, are told of at most so often. */
export const STEP_INTERVAL_MS = 100
/** Events that a follower of /api/events who was away can still have one by one. */
export const MAX_KEPT_EVENTS = 512
/** A scenario that is sent to be planned, in bytes; plannings at once; and how long one may take. */
export const MAX_SCENARIO_BYTES = 1 << 20
export const MAX_PLANNINGS = 2
export const PLANNING_DEADLINE_MS = 10_000
/** What the logs of all devices call a request, for whoever reports that it went wrong; OpenAI's clients read it, too. */
export const REQUEST_ID_HEADER = 'x-request-id'
/** Where a request has it while it is answered. */
export const REQUEST_ID_VARIABLE = 'requestId'
