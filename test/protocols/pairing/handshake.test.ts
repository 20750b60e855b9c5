import { describe, expect, test } from 'vitest'
import { type Channel, JoinerSide, memberSide, type Proof } from '../../../protocols/pairing/handshake.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'

const CODE = '314159'
const OTHER = '314158'
const CHANNEL: Channel = { joiner: peerIdOf('joiner'), member: peerIdOf('member') }
const DEVICE = peerIdOf('device')

interface Run {
  joiner: Proof
  member: Proof
}

/** `seenAs`: the connection as the member has it; `saidAs`: the device that it hears of. */
function run(typed: string, { at = CHANNEL, seenAs = CHANNEL, saidAs = DEVICE } = {}): Run {
  const side = new JoinerSide(typed, at, DEVICE)
  const { share, proof } = memberSide(CODE, seenAs, { ...side.start, device: saidAs })
  return { joiner: side.answered(share), member: proof }
}

const accepts = (proof: Proof, tag: string) => proof.isShownBy(tag)

test('who was told the code is known for it by the other side, and reads what that one seals', () => {
  const { joiner, member } = run(CODE)
  expect(accepts(member, joiner.tag)).toBe(true)
  expect(accepts(joiner, member.tag)).toBe(true)
  expect(joiner.open(member.seal('the ticket'))).toBe('the ticket')
})

describe('is refused by both', () => {
  const middle = peerIdOf('middle')
  test.each([
    ['another code', run(OTHER)],
    ['a code of other characters', run('３１４159')],
    [
      'a device in the middle that hands on both sides',
      run(CODE, {
        at: { joiner: CHANNEL.joiner, member: middle },
        seenAs: { joiner: middle, member: CHANNEL.member }
      })
    ],
    [
      'sides that take each other for what they are not',
      run(CODE, {
        at: CHANNEL,
        seenAs: { joiner: CHANNEL.member, member: CHANNEL.joiner }
      })
    ],
    ['a ticket asked for another device on the way', run(CODE, { saidAs: middle })]
  ])('%s', (_, { joiner, member }) => {
    expect([accepts(member, joiner.tag), accepts(joiner, member.tag)]).toEqual([false, false])
    expect(() => joiner.open(member.seal('the ticket'))).toThrow(/was not sealed by/)
  })
})

test('no side takes its own words back', () => {
  const { joiner, member } = run(CODE)
  expect([accepts(member, member.tag), accepts(joiner, joiner.tag)]).toEqual([false, false])
  // The share as well as the tag comes back to the device that joins, which a mirror can do without the code.
  const side = new JoinerSide(CODE, CHANNEL, DEVICE)
  const mirrored = side.answered(side.start.share)
  expect(accepts(mirrored, mirrored.tag)).toBe(false)
})

test('a tag of one run says nothing in another one', () => {
  const [first, second] = [run(CODE), run(CODE)]
  expect(accepts(second.member, first.joiner.tag)).toBe(false)
  const side = new JoinerSide(CODE, CHANNEL, DEVICE)
  const { share, proof } = memberSide(CODE, CHANNEL, side.start)
  const { tag } = side.answered(share)
  expect(accepts(proof, tag)).toBe(true)
  // All that the device has said, said again: the member's share is another one.
  expect(accepts(memberSide(CODE, CHANNEL, side.start).proof, tag)).toBe(false)
})

test.each(['', '00', 'ab'.repeat(63), 'ab'.repeat(65)])('a tag of another length is no tag', tag => {
  expect(accepts(run(CODE).member, tag)).toBe(false)
})

test.each(['00'.repeat(32), 'ff'.repeat(32), `01${'00'.repeat(31)}`])(
  'a share that no code makes ends the run on either side: %s',
  share => {
    const side = new JoinerSide(CODE, CHANNEL, DEVICE)
    expect(() => side.answered(share)).toThrow(/no point that a code makes/)
    expect(() => memberSide(CODE, CHANNEL, { ...side.start, share })).toThrow(/no point that a code makes/)
  }
)

test('a ticket that was changed on the way is none', () => {
  const { joiner, member } = run(CODE)
  const sealed = member.seal('the ticket')
  const bytes = Buffer.from(sealed.ticket, 'base64url')
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes)
    changed[at]! ^= 1
    expect(() => joiner.open({ ...sealed, ticket: changed.toString('base64url') })).toThrow(/not sealed/)
  }
  expect(() => joiner.open({ ...sealed, ticket: '' })).toThrow(/not sealed/)
  expect(() => joiner.open({ ...sealed, nonce: '00'.repeat(12) })).toThrow(/not sealed/)
})
