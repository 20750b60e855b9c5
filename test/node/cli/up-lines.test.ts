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
