import { expect, test } from 'vitest'
import { homeDir } from '../../../node/cli/home.ts'
import { peerLine, readyLines } from '../../../node/cli/up-lines.ts'

const PEER_ID = '12D3KooWRd741Ypf7xDPpweB6ThqezNn3zZs1RUQmeLThJvXMd3R'
const ready = {
  name: 'desk',
  url: 'http://127.0.0.1:7447',
  peerId: PEER_ID,
  addresses: [`/ip4/10.77.0.1/tcp/7446/p2p/${PEER_ID}`, `/ip6/fd00::1/tcp/7446/p2p/${PEER_ID}`],
  alone: false,
  home: homeDir()
}

test('a node that is ready says where its page is, and where the others reach it, in lines of a terminal', () => {
  const text = readyLines(ready)
  expect(text).toBe(
    'desk is ready: http://127.0.0.1:7447\n  it is hJvXMd3R to the others, at 10.77.0.1:7446, [fd00::1]:7446'
  )
  for (const line of readyLines({ ...ready, alone: true }).split('\n')) expect(line.length).toBeLessThan(80)
})

test('one that is alone says how a device is added', () => {
  expect(readyLines({ ...ready, alone: true })).toMatch(/to add a device: 'edgeshard pair' here/)
})

test('a port that nobody asked for and somebody else has is said, one that is as usual or asked for is not', () => {
  const usual = { usualApiPort: 7447, usualPort: 7446 }
  expect(readyLines({ ...ready, ...usual })).toBe(readyLines(ready))
  const other = {
    ...ready,
    url: 'http://127.0.0.1:7449',
    addresses: [`/ip4/10.77.0.1/tcp/7451/p2p/${PEER_ID}`]
  }
  expect(readyLines({ ...other, ...usual }).split('\n')).toEqual([
    'desk is ready: http://127.0.0.1:7449',
    expect.stringMatching(/port 7447 is taken; --api/),
    '  it is hJvXMd3R to the others, at 10.77.0.1:7451',
    expect.stringMatching(/port 7446 is taken; --port/)
  ])
  expect(readyLines(other)).not.toContain('taken')
})

test('a home that is not the usual one is in the command that is advised', () => {
  const said = (home: string) => readyLines({ ...ready, alone: true, home })
  expect(said('/srv/e')).toContain("'edgeshard pair --home /srv/e' here")
  expect(said('/srv/my home')).toContain(`'edgeshard pair --home "/srv/my home"' here`)
})

test('who comes and goes is called by its name and the short id that other commands show', () => {
  const peer = { peerId: PEER_ID, name: 'lap\ntop' }
  expect(peerLine({ event: 'peer:connect', ...peer })).toBe('+ connected: lap top (hJvXMd3R)')
  expect(peerLine({ event: 'peer:disconnect', ...peer })).toBe('- gone: lap top (hJvXMd3R)')
})
