/**
 * Places: what may hold a stage. A device that lists no processors is one; one that does is a place for each of them,
 * with memory and times of its own. Places of one device share its id, its links to other devices, and what may be there
 * because it is the source.
 */
import type { Device, Problem } from './problem.ts'

/** Whether two places are of one device. */
export function sameDevice({ devices }: Problem, a: number, b: number): boolean {
  return devices[a]!.id === devices[b]!.id
}

/** Whether a place is of the device that was prompted. */
export function isAtSource(problem: Problem, place: number): boolean {
  return sameDevice(problem, place, problem.source)
}

/** The places of the source, any of which may hold the first layers and the head. */
export function sourcePlaces(problem: Problem): number[] {
  return [...problem.devices.keys()].filter(place => isAtSource(problem, place))
}

/** What names a place in a result. */
export function placeOf({ id, processor }: Pick<Device, 'id' | 'processor'>): {
  device: string
  processor?: string
} {
  return { device: id, ...(processor !== undefined && { processor }) }
}

/**
 * The problem with the first place of each device alone, for methods that know no processors.
 *
 * @returns the smaller problem, and the place that each of its indices is
 */
export function firstPlaces(problem: Problem): { readonly alone: Problem; readonly places: number[] } {
  const ids = problem.devices.map(({ id }) => id)
  const places = [...ids.keys()].filter(place => ids.indexOf(ids[place]!) === place)
  if (places.length === ids.length) return { alone: problem, places }
  const indexOf = (place: number) => places.findIndex(first => sameDevice(problem, first, place))
  const alone: Problem = {
    ...problem,
    devices: places.map(place => problem.devices[place]!),
    source: indexOf(problem.source),
    cloud: problem.cloud === undefined ? undefined : indexOf(problem.cloud),
    links: places.map(from => places.map(to => problem.links[from]![to]!))
  }
  return { alone, places }
}
