/** What the system says when a process, or all together, may open no further file or connection. */
const OUT_OF_FILES = ['EMFILE', 'ENFILE']

/** Whether that is what failed, however it is worded by now: it works again as soon as something else is over. */
export function isOutOfFiles(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if ('code' in error && OUT_OF_FILES.includes(error.code as string)) return true
  return isOutOfFiles(error.cause)
}
