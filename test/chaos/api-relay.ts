// Leads a socket file to a port of the network namespace that this process runs in: `node api-relay.ts FILE PORT`. Files
// are the same in every namespace, so a client outside reaches the API of a node inside.
import { connect, createServer } from 'node:net'

const [file, port] = process.argv.slice(2)
createServer({ allowHalfOpen: true }, near => {
  const far = connect({ host: '127.0.0.1', port: Number(port), allowHalfOpen: true })
  near.pipe(far).pipe(near)
  near.on('error', () => far.destroy())
  far.on('error', () => near.destroy())
  near.on('close', () => far.destroy())
  far.on('close', () => near.destroy())
}).listen(file, () => process.stdout.write('ready\n'))
