import type { Stream } from '@libp2p/interface'
import { expect, test } from 'vitest'
import { JoinerSide, type Proof } from '../../../protocols/pairing/handshake.ts'
import { servePairing } from '../../../protocols/pairing/server.ts'
import type { StreamHandler, Transport } from '../../../protocols/transport.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'
import { FeedStream } from '../feed-stream.ts'

const [JOINER, MEMBER, DEVICE] = [peerIdOf('joiner'), peerIdOf('member'), peerIdOf('device')]
const CODE = '161803'

/** A stream that takes everything and keeps the messages. */
class Ear extends FeedStream {
  writeStatus = 'writable'
  writableNeedsDrain = false
  status = 'open'
  readonly heard: { type: string; share?: string; code?: string }[] = []

  send(bytes: Uint8Array): boolean {
    this.heard.push(JSON.parse(Buffer.from(bytes.subarray(4)).toString('utf8')))
    return true
  }

  say(message: object): void {
    const body = Buffer.from(JSON.stringify(message))
    const head = Buffer.alloc(4)
    head.writeUInt32BE(body.byteLength)
    this.feed(Buffer.concat([head, body]))
  }

  async close(): Promise<void> {
    this.status = 'closed'
  }
}

/** A member's side whose decisions are the test's; `begin` runs as far as the share. */
async function served() {
  let accept: StreamHandler = () => {}
  const transport = {
    peerId: MEMBER,
    touch() {},
    handle: async (_: readonly string[], handler: StreamHandler) => {
      accept = handler
      return async () => {}
    }
  } as Partial<Transport> as Transport
  const told: string[] = []
  const state = { shown: { code: CODE } as { code: string } | undefined }
  await servePairing(transport, {
    began() {},
    shown: () => state.shown,
    wrong: () => void told.push('wrong'),
    right: async device => {
      told.push(`right ${device}`)
      return 'ticket'
    }
  })
  const open = () => {
    const ear = new Ear()
    accept(ear as unknown as Stream, JOINER)
    return ear
  }
  const begin = async (code: string): Promise<{ ear: Ear; proof: Proof }> => {
    const ear = open()
    const side = new JoinerSide(code, { joiner: JOINER, member: MEMBER }, DEVICE)
    ear.say({ type: 'start', ...side.start })
    await expect.poll(() => ear.heard.length).toBe(1)
    return { ear, proof: side.answered(ear.heard[0]!.share!) }
  }
  return { told, state, open, begin }
}

const lastOf = async (ear: Ear) => {
  await expect.poll(() => ear.status).toBe('closed')
  return ear.heard.at(-1)
}

test('a right code is told once, with the device that gets the ticket; a wrong one is told as such', async () => {
  const { told, begin } = await served()
  const good = await begin(CODE)
  good.ear.say({ type: 'confirm', tag: good.proof.tag })
  expect(await lastOf(good.ear)).toMatchObject({ type: 'ticket' })
  const bad = await begin('161804')
  bad.ear.say({ type: 'confirm', tag: bad.proof.tag })
  expect(await lastOf(bad.ear)).toEqual({ type: 'refused', code: 'wrong-code' })
  expect(told).toEqual([`right ${DEVICE}`, 'wrong'])
})

test.each([
  ['closed', undefined],
  ['opened anew, with the same code even', { code: CODE }]
])('what was begun before it was %s is judged by nobody, right or wrong', async (_, after) => {
  const { told, state, begin } = await served()
  const runs = [await begin(CODE), await begin('000000')]
  state.shown = after
  for (const { ear, proof } of runs) {
    ear.say({ type: 'confirm', tag: proof.tag })
    expect(await lastOf(ear)).toEqual({ type: 'refused', code: 'closed' })
  }
  expect(told).toEqual([])
})

test('where it is closed that is all that is said, to whoever begins', async () => {
  const { told, state, open } = await served()
  state.shown = undefined
  const answers = []
  for (const code of [CODE, '000000']) {
    const ear = open()
    ear.say({ type: 'start', ...new JoinerSide(code, { joiner: JOINER, member: MEMBER }, DEVICE).start })
    await lastOf(ear)
    answers.push(ear.heard)
  }
  expect(answers).toEqual(Array(2).fill([{ type: 'refused', code: 'closed' }]))
  expect(told).toEqual([])
})

test('who leaves after the share has tried nothing', async () => {
  const { told, begin } = await served()
  const { ear } = await begin(CODE)
  ear.dispatchEvent(new Event('end'))
  await expect.poll(() => ear.error?.name).toBe('StreamEndedError')
  expect(told).toEqual([])
})

test('what is longer than a message may be is not read', async () => {
  const { told, open } = await served()
  const ear = open()
  ear.feed(Buffer.from('00004001', 'hex'))
  await expect.poll(() => ear.error?.name).toBe('LimitExceededError')
  expect(told).toEqual([])
})
