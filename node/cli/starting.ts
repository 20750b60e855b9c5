/** Takes from the terminal what the launcher has put there while the rest was loaded (edgeshard.mjs). */
export function started(): void {
  if (process.env.EDGESHARD_STARTING === undefined) return
  delete process.env.EDGESHARD_STARTING
  process.stderr.write('\r\u001b[K')
}
