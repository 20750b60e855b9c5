import { expect, test } from 'vitest'
import { DialNotices } from '../../../node/mesh/dial-notices.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'

const [M, N] = ['m', 'n'].map(peerIdOf) as [string, string]
const nameOf = () => 'm2'
const reason = 'it said no'

test('nobody is told to join the mesh of whoever answers where a known peer was', () => {
  const notices = new DialNotices([`/ip4/10.0.0.2/tcp/1/p2p/${M}`])
  const met = notices.noticeOf({ target: M, reason, refused: true, met: true, isSelf: false }, nameOf)
  expect(met).toContain('m2 is not reached')
  expect(met).not.toContain('belongs to another mesh')
  expect(met).toContain('a new ticket of this mesh')
  expect(notices.noticeOf({ target: M, reason, refused: true, met: true, isSelf: false }, nameOf)).toBe(null)
})

test('a peer that was never met and refuses where its owner says that it is belongs to another mesh', () => {
  const notices = new DialNotices([])
  expect(notices.noticeOf({ target: N, reason, refused: true, met: false, isSelf: false }, nameOf)).toContain(
    'another mesh'
  )
  expect(notices.noticeOf({ target: M, reason, refused: false, met: false, isSelf: false }, nameOf)).toBe(
    null
  )
})
