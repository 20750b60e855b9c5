/** One thing that was looked at. `ok`: fine. `note`: worth knowing. `problem`: something does not work. */
export interface Finding {
  level: 'ok' | 'note' | 'problem'
  check: string
  found: string
  /** What to do about it; absent when nothing. */
  advice?: string
}
