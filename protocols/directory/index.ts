/**
 * The directory protocol: what a node says of itself, and heartbeats, on one long-lived control stream per pair of
 * peers. Both sides send their record when it opens and after every change; a record about anybody else than its
 * sender ends the stream. Round-trip times come from the heartbeats.
 *
 * @example
 * ```ts
 * const directory = await createDirectoryService(host, {
 *   schema: nodeRecordSchema,
 *   own: () => table.own,
 *   contacts: () => known.contacts(),
 *   onRecord: (peerId, record) => table.update(peerId, record),
 *   onContacts: (peerId, contacts) => contacts.forEach(dialLater),
 *   onRtt: (peerId, rttMs) => table.measured(peerId, rttMs),
 *   onError: (peerId, error) => log(peerId, error)
 * })
 * ```
 */
export {
  createDirectoryService,
  type DirectoryHandlers,
  type DirectoryService,
  speaksOtherDirectory
} from './directory.ts'
export type { Contact, RecordHead } from './messages.ts'
