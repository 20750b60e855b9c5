/** Puts a text into the clipboard. @returns whether the browser lets it */
export async function copied(text: string): Promise<boolean> {
  // Only pages of this device or of HTTPS have it.
  if (navigator.clipboard !== undefined) {
    try {
      await navigator.clipboard.writeText(text)
      return true
    } catch {
      // It is not let; the older way may be.
    }
  }
  const field = document.createElement('textarea')
  field.value = text
  field.className = 'visually-hidden'
  document.body.append(field)
  const before = document.activeElement
  field.select()
  try {
    return document.execCommand('copy')
  } finally {
    field.remove()
    if (before instanceof HTMLElement) before.focus()
  }
}
