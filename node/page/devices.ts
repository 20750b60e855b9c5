import type { LayerRange } from '../../models/layers.ts'
import type { LinkState, MeshState, NodeRecord } from '../api.ts'
import { placeName } from '../place-name.ts'
import { allMemory } from '../record-processors.ts'
import { withNames as named } from '../short-names.ts'
import { bytes, shortId } from './format.ts'

/** A device as the page shows it. */
export interface Device {
  peerId: string
  name: string
  isSelf: boolean
  state: MeshState['peers'][number]['state']
  reason: string | undefined
  rttMs: number | null
  hardware: string
  /** It grants no memory any more: it is about to go. */
  isDraining: boolean
  /** Bytes on its disk for the case that another device dies, and how many these may be; undefined: it keeps none. */
  prefetch: { quotaBytes: number; bytes: number } | undefined
  memory: Memory
  /** Layers that it computes for this node. */
  layers: readonly LayerRange[]
  /** Number of its colour. */
  colour: number
}

/** What a device's budget is filled with, in bytes. */
export interface Memory {
  budgetBytes: number
  usedBytes: number
  /** Weights of stages that this node computes with there. */
  weightBytes: number
  /** KV caches and working memory of those, and what others compute with. */
  otherBytes: number
  /** Weights that this node keeps warm there for its next answer, and gives back when others need the room. */
  idleBytes: number
}

/** A pair of devices with its two directions. */
export interface Link {
  a: string
  b: string
  there: LinkState | undefined
  back: LinkState | undefined
}

export const COLOURS = 8
/** A link that was measured longer ago is drawn dashed; nodes measure anew after half an hour. */
export const OLD_MS = 35 * 60_000

/** All devices that are known, this one first. */
export function devicesOf(mesh: MeshState): Device[] {
  const self = { ...mesh.self, state: 'connected' as const, rttMs: null, reason: undefined }
  return [self, ...mesh.peers].map((record, i) => {
    const placed = mesh.deployments.flatMap(({ plan, sessions }) =>
      plan.stages.filter(({ peerId }) => peerId === record.peerId).map(stage => ({ stage, sessions }))
    )
    const { budgetBytes, freeBytes } = allMemory(record)
    const weightsWhere = (isBusy: boolean) =>
      placed
        .filter(({ sessions }) => sessions > 0 === isBusy)
        .reduce((sum, { stage }) => sum + stage.weightBytes, 0)
    // What an answer has begun to compute with is told of before what is free.
    const busyBytes = Math.min(budgetBytes, Math.max(0, budgetBytes - freeBytes, weightsWhere(true)))
    const weightBytes = Math.min(busyBytes, weightsWhere(true))
    // What is idle counts as free.
    const idleBytes = Math.min(budgetBytes - busyBytes, weightsWhere(false))
    return {
      peerId: record.peerId,
      name: record.name,
      isSelf: i === 0,
      state: record.state,
      reason: record.reason,
      rttMs: record.rttMs,
      hardware: hardwareOf(record),
      isDraining: record.draining === true,
      prefetch: record.prefetch,
      memory: {
        budgetBytes,
        usedBytes: busyBytes + idleBytes,
        weightBytes,
        otherBytes: busyBytes - weightBytes,
        idleBytes
      },
      layers: placed.map(({ stage }) => stage.layers),
      colour: i % COLOURS
    }
  })
}

/** What it is, and what computes stages there, where that is more than its CPU. */
function hardwareOf({ hardware, memory: own, processors = [] }: NodeRecord): string {
  const others = processors
    .filter(({ kind }) => kind !== 'cpu')
    .map(({ kind, name, used }) => `; ${kind} ${name}, ${used ? 'which computes' : 'not used now'}`)
  const computing = processors.flatMap(({ kind, used, memory = used ? own : undefined }) =>
    memory === undefined ? [] : [`${kind.toUpperCase()} ${bytes(memory.budgetBytes)}`]
  )
  const memories = computing.length < 2 ? '' : `; stages on ${computing.join(', ')}`
  return `${hardware.cpu}, ${hardware.cores} cores${others.join('')}${memories}`
}

/** Name of a model for people, as the devices that imported it call it; those that only keep it for others tell its id as its name. */
export function modelName(mesh: MeshState, modelId: string): string {
  const all = [mesh.self, ...mesh.peers].flatMap(({ models }) => models)
  return all.find(({ id, name }) => id === modelId && name !== id)?.name ?? modelId.slice(0, 8)
}

/** Pairs of the devices that were measured in at least one direction, each as old as `ageOf` says. */
export function linksOf(
  mesh: MeshState,
  devices: readonly Device[],
  ageOf: (link: LinkState) => number = ({ ageMs }) => ageMs
): Link[] {
  const direction = (a: string, b: string) => {
    const link = mesh.links.find(({ from, to }) => from === a && to === b)
    return link && { ...link, ageMs: ageOf(link) }
  }
  return devices.flatMap(({ peerId: a }, i) =>
    devices.slice(i + 1).flatMap(({ peerId: b }) => {
      const there = direction(a, b)
      const back = direction(b, a)
      return there === undefined && back === undefined ? [] : [{ a, b, there, back }]
    })
  )
}

/**
 * True of a link whose two measurements differ so much that something else went over it or a device was busy, or of which
 * a device said that it was.
 */
export function isUnsure({ spread, starved }: Pick<LinkState, 'spread' | 'starved'>): boolean {
  return spread > 0.1 || starved === true
}

/** How a link's rate is known, where that is worth a word: seen of its traffic, or measured while something was busy. */
export function howKnown(link: Pick<LinkState, 'spread' | 'starved' | 'observed'>): string {
  if (link.observed === true) return 'seen in its traffic'
  return isUnsure(link) ? 'measured under load' : ''
}

/** A name for people: with the end of the id where others have the same. */
export function nameOf(devices: readonly Device[], peerId: string): string {
  const found = devices.find(device => device.peerId === peerId)
  if (found === undefined) return shortId(peerId)
  const isShared = devices.some(({ name, peerId: other }) => name === found.name && other !== peerId)
  return isShared || found.name === '' ? `${found.name} ${shortId(peerId)}` : found.name
}

/** A stage's place for people: its device, and which of the device's processors where the stage names one. */
export function placeOf(
  devices: readonly Device[],
  { peerId, processor }: { peerId: string; processor?: string | undefined }
): string {
  return placeName({ id: nameOf(devices, peerId), processor })
}

/** A sentence of the node, whose ids nobody reads to their end, with short ones. */
export function withShortIds(devices: readonly Device[], text: string): string {
  return devices.reduce((short, { peerId }) => short.replaceAll(peerId, () => shortId(peerId)), text)
}

/** A sentence of the node with names in the place of ids. */
export function withNames(devices: readonly Device[], text: string): string {
  return named(text, new Map(devices.map(({ peerId }) => [peerId, nameOf(devices, peerId)])))
}
