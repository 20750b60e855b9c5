/** A place as people read it: `desk`, or `desk (gpu)`. */
export function placeName({ id, processor }: { id: string; processor?: string | undefined }): string {
  return processor === undefined ? id : `${id} (${processor})`
}
