/** Text from outside, as an SVG shows it and never obeys it. */
export function escapeXml(content: string): string {
  return content
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
}

/** A coordinate; a tenth of a pixel is exact enough. */
export function at(value: number): string {
  return value.toFixed(1)
}
