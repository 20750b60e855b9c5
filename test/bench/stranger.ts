// A stranger without the mesh's secret, started by strangers.ts: `stranger.ts COUNT ADDRESS...`. Opens COUNT connections in
// three ways by turns and prints how many each was.
import { connect } from 'node:net'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { splitAddress } from '../../node/mesh/contacts.ts'
import { Host } from '../../node/mesh/host.ts'

const AT_ONCE = 50
/** One of so many attempts is a whole handshake of the library, the others are as cheap as can be for the stranger. */
const HANDSHAKE_EVERY = 10
const ANSWER_MS = 2000

/** multistream-select's `/noise`, then the first noise message: no member's key. The node answers with signatures. */
const HALF_HANDSHAKE = Buffer.concat([
  ...['/multistream/1.0.0\n', '/noise\n'].map(line =>
    Buffer.concat([Buffer.from([line.length]), Buffer.from(line)])
  ),
  Buffer.from([0, 32]),
  Buffer.alloc(32, 9)
])

const [count, ...targets] = process.argv.slice(2)
const addresses = targets.map(target => splitAddress(target).address)
const host = await Host.create({
  privateKey: await generateKeyPair('Ed25519'),
  prologue: new Uint8Array(32).fill(1),
  serviceTag: undefined,
  port: 0,
  listen: '127.0.0.1',
  gate: { accepts: () => true, hasMet: () => true }
})
const done = { opened: 0, half: 0, whole: 0 }
let next = 0
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    while (next < Number(count)) {
      const i = next++
      const address = addresses[i % addresses.length]!
      if (i % HANDSHAKE_EVERY === 0) {
        await host.dial([address]).catch(() => {})
        done.whole++
      } else if (i % 2 === 0) {
        await raw(address, Buffer.alloc(0))
        done.opened++
      } else {
        await raw(address, HALF_HANDSHAKE)
        done.half++
      }
    }
  })
)
process.stdout.write(JSON.stringify(done))
process.exit()

/** Opens a connection, says `bytes`, and leaves when the node has answered or closed. */
function raw(address: string, bytes: Uint8Array): Promise<void> {
  const [, host, port] = /^\/ip4\/([^/]+)\/tcp\/(\d+)/.exec(address)!
  return new Promise(resolve => {
    const socket = connect(Number(port), host)
    const leave = () => {
      socket.destroy()
      resolve()
    }
    socket.setTimeout(ANSWER_MS, leave)
    socket.on('connect', () => {
      if (bytes.byteLength === 0) leave()
      else socket.write(bytes)
    })
    let answered = 0
    socket.on('data', data => {
      answered += data.byteLength
      if (answered > 100) leave()
    })
    socket.on('error', leave)
    socket.on('close', leave)
  })
}
