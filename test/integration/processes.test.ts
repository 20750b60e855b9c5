import { afterEach, describe, expect, it } from 'vitest'
import { ask } from '../../node/demo/ask.ts'
import { NodeProcess } from '../../node/demo/node-process.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { bundledShare, Nodes, SECRET, until } from '../fixtures/nodes.ts'
import { TcpRelay } from '../fixtures/tcp-relay.ts'

/** Nodes as processes of their own, started with the command line. */
const running: NodeProcess[] = []
const homes = new Nodes()

afterEach(async () => {
  await Promise.all(running.splice(0).map(node => node.stop()))
})

async function up(name: string, args: string[], home?: string): Promise<NodeProcess> {
  const where = ['--home', home ?? (await homes.home(SECRET)), '--name', name]
  const all = [...where, '--no-mdns', '--port', '0', '--api', '127.0.0.1:0', ...args]
  const node = await NodeProcess.start(all, { readyTimeoutMs: deadlineMs(20_000) })
  running.push(node)
  return node
}

async function pair(): Promise<[NodeProcess, NodeProcess]> {
  const memory = ['--memory', String(await bundledShare(0.7))]
  const a = await up('a', memory)
  const { addresses } = (await a.mesh()).self
  const b = await up('b', [...memory, '--no-bundled', '--peer', addresses[0]!])
  await until(async () => (await a.mesh()).peers.some(peer => peer.connected))
  return [a, b]
}

const request = {
  prompt: 'Tell me a story about a robot and a lamp.',
  maxTokens: 200,
  signal: new AbortController().signal
}

describe('a peer that fails during an answer', () => {
  it.each(['SIGKILL', 'SIGSTOP'] as const)(
    'is replaced after %s: the answer goes on with the same tokens',
    async signal => {
      const memory = ['--memory', String(await bundledShare(0.7))]
      const a = await up('a', memory)
      const peer = ['--no-bundled', '--peer', a.addresses[0]!]
      const others = [await up('b', [...memory, ...peer]), await up('c', [...memory, ...peer])]
      await until(async () => (await a.mesh()).peers.filter(peer => peer.connected).length === 2)
      const undisturbed = await ask(a.api, request)
      const victim = others.find(({ peerId }) =>
        undisturbed.plan.stages.some(stage => stage.peerId === peerId)
      )!
      let shown = 0
      const answer = await ask(a.api, request, {
        onText: () => {
          if (++shown === 10) process.kill(victim.pid, signal)
        }
      })
      if (signal === 'SIGSTOP') process.kill(victim.pid, 'SIGKILL')
      expect(shown).toBeGreaterThan(10)
      expect(answer.recoveries).toBe(1)
      expect(answer.plan.stages.map(stage => stage.peerId)).not.toContain(victim.peerId)
      expect(answer.tokens).toEqual(undisturbed.tokens)
    }
  )

  it.each([
    ['dies', 'SIGKILL', /stage lost: b \(12D3\w+\) with layers \[\d+, \d+\)/],
    ['hangs', 'SIGSTOP', /stage lost: b \(12D3\w+\) with layers .*(no sign of life|silent)/]
  ] as const)(
    'one that %s and cannot be replaced is named, and the source serves the next prompt',
    async (_, signal, message) => {
      const [a, b] = await pair()
      let tokens = 0
      const answer = ask(a.api, request, {
        onText: () => {
          if (++tokens === 3) process.kill(b.pid, signal)
        }
      })
      await expect(answer).rejects.toThrow(message)
      expect(tokens).toBeGreaterThanOrEqual(3)
      if (signal === 'SIGSTOP') process.kill(b.pid, 'SIGKILL')
      await until(async () => (await a.mesh()).leases.length === 0)
      await up('c', ['--no-bundled', '--peer', (await a.mesh()).self.addresses[0]!])
      await until(async () => (await a.mesh()).peers.some(({ name, connected }) => name === 'c' && connected))
      expect((await ask(a.api, { ...request, maxTokens: 5 })).tokens.length).toBeGreaterThan(0)
    }
  )
})

describe('a node that is told to stop in the middle of an answer', () => {
  it('lets it come to its end, its own and one of another source, and ends then', async () => {
    const drain = ['--memory', String(await bundledShare(0.7)), '--drain', '3600']
    const a = await up('a', drain)
    const b = await up('b', [...drain, '--no-bundled', '--peer', a.addresses[0]!])
    await until(async () => (await a.mesh()).peers.some(peer => peer.connected))
    let shown = 0
    const answer = await ask(a.api, request, {
      onText: () => {
        if (++shown === 3) for (const { pid } of [a, b]) process.kill(pid, 'SIGTERM')
      }
    })
    expect(answer).toMatchObject({ recoveries: 0, finishReason: expect.stringMatching(/^(stop|length)$/) })
    expect(answer.plan.stages.map(({ peerId }) => peerId)).toContain(b.peerId)
    expect(await Promise.all([a.exited, b.exited])).toEqual([
      expect.stringMatching(/^ended \(0\)/),
      expect.stringMatching(/^ended \(0\)/)
    ])
  })

  it('says so in the last event of an answer that has no time left', async () => {
    const a = await up('a', ['--drain', '0'])
    let shown = 0
    const answer = ask(
      a.api,
      { ...request, maxTokens: 400 },
      {
        onText: () => {
          if (++shown === 3) process.kill(a.pid, 'SIGTERM')
        }
      }
    )
    await expect(answer).rejects.toMatchObject({ name: 'ApiError', code: 'stopping' })
    expect(await a.exited).toMatch(/^ended \(0\)/)
  })
})

describe('one home', () => {
  it('runs one node; the second says so and exits', async () => {
    const home = await homes.home()
    await up('first', [], home)
    await expect(up('second', [], home)).rejects.toThrow(/in use by a node that runs here already/)
  })
})

describe('what is on the wire between two nodes', () => {
  it('shows neither the prompt nor the answer', async () => {
    const memory = ['--memory', String(await bundledShare(0.7))]
    const a = await up('a', memory)
    const { addresses, peerId } = (await a.mesh()).self
    const tap = await tapOf(Number(/\/tcp\/(\d+)/.exec(addresses[0]!)![1]))
    try {
      const b = await up('b', [
        ...memory,
        '--no-bundled',
        '--peer',
        `/ip4/127.0.0.1/tcp/${tap.relay.port}/p2p/${peerId}`
      ])
      await until(async () => (await a.mesh()).peers.some(peer => peer.connected))
      const answer = await ask(a.api, request)
      expect(answer.plan.stages.map(stage => stage.peerId)).toContain(b.peerId)
      const seen = tap.bytes()
      expect(seen.length).toBeGreaterThan(answer.tokens.length * 100)
      expect(seen.includes('robot')).toBe(false)
      expect(seen.includes(answer.text.slice(0, 12))).toBe(false)
    } finally {
      await tap.relay[Symbol.asyncDispose]()
    }
  })
})

/** A relay to a port of this machine that keeps what passes. */
async function tapOf(target: number): Promise<{ relay: TcpRelay; bytes: () => Buffer }> {
  const chunks: Buffer[] = []
  const relay = await TcpRelay.start(target, (from, to) => {
    from.on('data', chunk => {
      chunks.push(chunk)
      to.write(chunk)
    })
  })
  return { relay, bytes: () => Buffer.concat(chunks) }
}
