/** What the demo shows is not so: no peer was found, a node ended, counters are off, or answers differ. */
export class DemoError extends Error {
  override readonly name = 'DemoError'
  readonly code = 'demo_failed'
}
