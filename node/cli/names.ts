import { clean } from './format.ts'

/** Fewer characters of an id are no shorter to type, and more of them alike by chance. */
const SHORTEST = 8

interface Named {
  peerId: string
  name: string
}

/** The ends of ids, as short as tells all of them apart: 8 characters where that is enough. Ids of peers begin alike. */
export function shortIds(ids: readonly string[]): ReadonlyMap<string, string> {
  const longest = Math.max(0, ...ids.map(id => id.length))
  let length = SHORTEST
  while (length < longest && new Set(ids.map(id => id.slice(-length))).size < new Set(ids).size) length++
  return new Map(ids.map(id => [id, id.slice(-length)]))
}

/** What devices are called, by id: their names, and the end of the id behind one that several have. */
export function shortNames(devices: readonly Named[]): ReadonlyMap<string, string> {
  const ids = shortIds(devices.map(({ peerId }) => peerId))
  const called = devices.map(({ name }) => clean(name))
  return new Map(
    devices.map(({ peerId }, at) => {
      const name = called[at]!
      const isAlone = called.filter(other => other === name).length === 1
      return [peerId, isAlone && name !== '' ? name : `${name} ...${ids.get(peerId)}`.trim()]
    })
  )
}
