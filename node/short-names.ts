/** Fewer characters of an id are no shorter to type, and more of them alike by chance. */
const SHORTEST = 8

/** What a terminal would act on, or would not show. Here, since what asks a node for people loads no protocol. */
const NO_TEXT = /[\p{Cc}\p{Cf}\u2028\u2029]+/gu

interface Named {
  peerId: string
  name: string
}

/** The end of an id, as people see it where it stands alone. */
export function shortId(id: string): string {
  return id.slice(-SHORTEST)
}

/** The ends of ids, as short as tells all of them apart: 8 characters where that is enough. Ids of peers begin alike. */
export function shortIds(ids: readonly string[]): ReadonlyMap<string, string> {
  const longest = Math.max(0, ...ids.map(id => id.length))
  let length = SHORTEST
  while (length < longest && new Set(ids.map(id => id.slice(-length))).size < new Set(ids).size) length++
  return new Map(ids.map(id => [id, id.slice(-length)]))
}

/**
 * What devices are called, by id: their names, and the end of the id behind one that several have. No two are called the
 * same, whatever they call themselves.
 */
export function shortNames(listed: readonly Named[]): ReadonlyMap<string, string> {
  // A plan may name its source twice.
  const devices = [...new Map(listed.map(device => [device.peerId, device])).values()]
  const ids = shortIds(devices.map(({ peerId }) => peerId))
  const names = devices.map(({ name }) => name.replace(NO_TEXT, ' ').trim())
  const called = devices.map(({ peerId }, at) => {
    const name = names[at]!
    const isAlone = name !== '' && names.filter(other => other === name).length === 1
    return isAlone ? name : `${name} ...${ids.get(peerId)}`.trim()
  })
  // Somebody calls itself as another one is called here: then it is the ids that tell.
  const isClear = new Set(called).size === devices.length
  return new Map(
    devices.map(({ peerId }, at) => [peerId, isClear ? called[at]! : `${names[at]} ...${peerId}`])
  )
}

/**
 * A text about devices by their ids, with what they are called in the place of those. What has been put there is no id any
 * more: somebody may call itself by another one's.
 */
export function withNames(text: string, names: ReadonlyMap<string, string>): string {
  // The longest first: an id may begin like another one.
  const ids = [...names.keys()].filter(id => id !== '').sort((a, b) => b.length - a.length)
  if (ids.length === 0) return text
  const any = new RegExp(ids.map(id => id.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')).join('|'), 'g')
  return text.replace(any, id => names.get(id)!)
}
