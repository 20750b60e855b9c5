import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { Statement } from '../../protocols/membership/index.ts'
import { message } from '../node/mesh/raw-member.ts'
import { mutateBytes, mutateJson, type Random } from '../protocols/mutate.ts'

/** What is true at the node that is fuzzed, so that what is said to it gets past the first checks. */
export interface Facts {
  /** The hostile member's own id, and that of the node. */
  own: string
  target: string
  modelId: string
  blobs: readonly string[]
  layers: number
  /** The name of the mesh, and a statement that counts there. */
  mesh: string
  admission: Statement
}

/** Bytes of a message, sound or broken. */
export type Saying = (facts: Facts, random: Random) => Uint8Array

/** How often a saying is left as it is: what is sound leads to where only the next one is wrong. */
const SOUND_SHARE = 0.2
/** How often its bytes are changed, rather than its fields. */
const BYTES_SHARE = 0.15
const SESSION_IDS = Array.from({ length: 8 }, (_, at) => createHash('md5').update(String(at)).digest('hex'))

interface Vector {
  reader: string
  bytes: string | [hex: string, times: number][]
  message?: object
}

function broken(value: unknown, random: Random): Uint8Array {
  const dice = random.next()
  if (dice < SOUND_SHARE) return message(value)
  if (dice < SOUND_SHARE + BYTES_SHARE) return mutateBytes(message(value), random)
  return message(mutateJson(value, random))
}

/** The messages of the wire's test vectors that a node is sent on a protocol. */
async function vectorsOf(protocol: string, readers: readonly string[]): Promise<Saying[]> {
  const url = new URL(`../protocols/vectors/${protocol}.json`, import.meta.url)
  const { messages } = JSON.parse(await readFile(url, 'utf8')) as { messages: Vector[] }
  return messages
    .filter(({ reader }) => readers.includes(reader))
    .map(({ bytes, message: value }) => {
      const whole = bytesOf(bytes)
      return (_, random) =>
        value === undefined || random.next() < BYTES_SHARE
          ? mutateBytes(whole, random)
          : broken(value, random)
    })
}

async function frames(): Promise<Saying[]> {
  const url = new URL('../protocols/vectors/stage.json', import.meta.url)
  const { frames } = JSON.parse(await readFile(url, 'utf8')) as { frames: Vector[] }
  // The large ones would only be counted by the network.
  return frames
    .map(({ bytes }) => bytesOf(bytes))
    .filter(({ byteLength }) => byteLength < 65_536)
    .map(whole => (_, random) => (random.next() < SOUND_SHARE ? whole : mutateBytes(whole, random)))
}

function bytesOf(bytes: Vector['bytes']): Buffer {
  if (typeof bytes === 'string') return Buffer.from(bytes, 'hex')
  return Buffer.concat(bytes.flatMap(([hex, times]) => Array<Buffer>(times).fill(Buffer.from(hex, 'hex'))))
}

/** A request about what there is: the model at hand, leases that may be granted, sessions that may be open. */
const lease: Saying = ({ own, target, modelId, layers }, random) => {
  const start = 1 + random.below(layers - 2)
  const leaseId = `${random.below(64)}`
  const sessionId = random.pick(SESSION_IDS)
  const neighbours = { leaseId, previous: own, next: random.pick([own, target]) }
  const slot = random.below(3)
  const [type, body] = random.pick<[string, object]>([
    ['reserve', { modelId, range: [start, start + 1], maxTokens: 1 + random.below(300), sessions: 1 + slot }],
    ['reserve', { modelId, range: [start, start + 1], maxTokens: 64, sessions: 1, waitMs: random.below(50) }],
    ['load', { ...neighbours, holders: [random.pick([own, target])] }],
    ['relink', neighbours],
    ['open', { sessionId, leaseId, slot, keepTokens: random.below(2), withholdTokens: 0 }],
    ['close', { sessionId }],
    ['renew', { leaseId }],
    ['release', { leaseId }]
  ])
  return broken({ type, id: random.below(100), body }, random)
}

const weights: Saying = ({ blobs }, random) => {
  const request = { sha256: random.pick(blobs), offset: random.below(2000), credit: 8192 }
  return broken(request, random)
}

const record: Saying = ({ own }, random) => {
  const hardware = { platform: 'linux', arch: 'x64', cpu: 'any', cores: 2, totalMemoryBytes: 2 ** 30 }
  const memory = { budgetBytes: 1000, freeBytes: random.below(1000) }
  const sequence = random.below(2 ** 31)
  return broken(
    { type: 'record', record: { peerId: own, name: 'fuzz', version: '0.1.0', sequence, hardware, memory } },
    random
  )
}

const membership: Saying = ({ mesh, admission }, random) => {
  const { by, signature } = admission
  const hex = (bytes: number) => '5'.repeat(2 * bytes)
  const said = [
    { type: 'hello', mesh, epoch: 0, proof: [admission], digest: hex(32) },
    { type: 'redeem', mesh, code: hex(16) },
    { type: 'rotate', epoch: 1 + random.below(3), secret: hex(32), by, signature },
    { type: 'statements', statements: [admission, { ...admission, type: 'ban', counter: 1 }], more: false }
  ]
  return broken(random.pick(said), random)
}

/** What a node can be told on each of its protocols. */
export async function sayings(): Promise<Record<string, Saying[]>> {
  return {
    directory: [...(await vectorsOf('directory', ['message'])), record],
    lease: [...(await vectorsOf('lease', ['request'])), ...Array<Saying>(20).fill(lease)],
    links: await vectorsOf('links', ['request']),
    membership: [
      ...(await vectorsOf('membership', ['opening', 'end'])),
      ...Array<Saying>(10).fill(membership)
    ],
    stage: await frames(),
    weights: [...(await vectorsOf('weights', ['request'])), ...Array<Saying>(5).fill(weights)]
  }
}
