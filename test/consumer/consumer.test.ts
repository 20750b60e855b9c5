import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { examplesOf, packageExamples } from './examples.ts'
import { Installed } from './installed.ts'

let project: Installed
beforeAll(async () => {
  project = await Installed.pack()
}, 120_000)
afterAll(async () => {
  await project?.[Symbol.asyncDispose]()
})

/** A node, its HTTP server and the client in one program: all that the examples show, with a model that is there. */
const PROGRAM = `
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createNode } from 'edgeshard'
import { createClient } from 'edgeshard/client'
import { startHttpServer } from 'edgeshard/http'
import { ModelStore } from 'edgeshard/models'
import { parseScenario, plan } from 'edgeshard/plan'

const home = await mkdtemp(join(tmpdir(), 'edgeshard-consumer-home-'))
try {
  await using node = await createNode({ home, mdns: false, port: 0, threads: 1 })
  await using server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
  const client = createClient({ url: server.url })
  const messages = [{ role: 'user' as const, content: 'What does a thermostat do?' }]
  let text = ''
  for await (const piece of client.chatStream({ messages, temperature: 0, max_tokens: 8 })) {
    text += piece.choices[0]?.delta.content ?? ''
  }
  const page = await (await fetch(server.url)).text()
  const script = await fetch(new URL(/src="([^"]+)"/.exec(page)![1]!, server.url))
  const answer = plan(parseScenario(await client.scenario()))
  const stored = await (await ModelStore.open(join(home, 'store'))).list()
  console.log(JSON.stringify({ text, feasible: answer.feasible, page: script.status, models: stored.map(({ name }) => name) }))
} finally {
  await rm(home, { recursive: true, force: true })
}
`

/** Every type in a signature of the package has a name that can be imported. */
const NAMES = `
import type {
  ChatInput, ChatMessage, DeploymentState, EdgeNode, ErrorCode, ErrorOutcome, FetchState, FinishReason, GenerateEvent,
  GenerateRequest, GenerateResult, LayerProfile, LayerRange, LeaseState, LinkEstimate, LinkState, Manifest, MeasuredStep,
  MembershipControl, MeshState, Method, ModelShape, ModelSummary, NodeCounters, NodeInit, NodeRecord, Objective, PeerName,
  PlacementOptions, PlannedStage, Predicted, Privacy, RecoveryTimes, ScenarioInput, ScenarioNeeds, Strategy, TokenLogprob,
  ToolCall, ToolDefinition, UnreachedPeer
} from 'edgeshard'
import {
  AddressError, BusyError, ChatTemplateError, ContextLengthError, HomeFileError, HomeInUseError, NodeTooOldError,
  PlanRefusedError, RequestError, StageLostError, TextTooLongError, TokenizerError, TokenizerTimeoutError, UnknownModelError
} from 'edgeshard'

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never
const manifest: Same<Awaited<ReturnType<EdgeNode['manifest']>>['manifest'], Manifest> = true
const scenario: Same<Awaited<ReturnType<EdgeNode['scenario']>>, ScenarioInput> = true
const layers: Same<PlannedStage['layers'], LayerRange> = true
const measured: Same<GenerateResult['measured'], MeasuredStep> = true
const busy: 'busy' = new BusyError('full').code
export { manifest, scenario, layers, measured, busy }
`

/** Every event is told apart by its type: a program that has a case for each needs no default. */
const EVENTS = `
import { afterEvent, createClient, type GenerateEvent, type MeshEvent, type MeshState } from 'edgeshard/client'

const node = createClient({ url: 'http://127.0.0.1:7447' })

function told({ type, data }: MeshEvent): string {
  switch (type) {
    case 'mesh': return data.self.name
    case 'peer': return 'self' in data ? data.self.name : 'peer' in data ? data.peer.state : data.gone
    case 'link': return 'link' in data ? String(data.link.mbps) : data.gone.from
    case 'plan': return data.deployments.map(({ modelId }) => modelId).join()
    case 'load': return 'fetches' in data ? String(data.fetches.length) : data.phase
    case 'step': return String(data.tokens)
    case 'recovery': return 'reason' in data ? data.reason : String(data.spent.detectMs)
    case 'answer': return String(data.answer)
    case 'rest': return String(data.leases?.length)
  }
}

function drawn(event: GenerateEvent): string {
  switch (event.type) {
    case 'progress': return event.peer
    case 'prompt': return String(event.tokens)
    case 'plan': return event.plan.stages.map(({ name }) => name).join()
    case 'prefill': return String(event.done)
    case 'recovery': return event.reason
    case 'recovered': return String(event.spent.planMs)
    case 'moved': return event.move.reason
    case 'text':
    case 'reasoning':
    case 'arguments': return event.text
    case 'call': return event.name
    case 'called': return String(event.index)
    case 'done': return event.result.text
  }
}

let mesh: MeshState | undefined
for await (const change of node.changes()) {
  mesh = afterEvent(mesh, change)
  console.log(told(change))
}
for await (const event of node.generate({ input: { kind: 'raw', text: 'hi' } })) console.log(drawn(event))
`

describe('the package, installed elsewhere', { timeout: 120_000 }, () => {
  test('compiles every example of its documentation, has a name for every type, and tells events apart by theirs', async () => {
    const files: string[] = []
    for (const [i, { file, text }] of packageExamples().entries()) {
      const name = `${file.replace(/\W/g, '-')}-${i}.ts`
      files.push(name)
      await project.write(name, text)
    }
    expect(files.length).toBeGreaterThan(5)
    await project.write('names.ts', NAMES)
    await project.write('events.ts', EVENTS)
    await project.write('program.ts', PROGRAM)
    expect(await project.compile([...files, 'names.ts', 'events.ts', 'program.ts'])).toBe('')
  })

  test('refuses what is not in its types', async () => {
    await project.write(
      'wrong.ts',
      "import { createClient } from 'edgeshard/client'\ncreateClient({ adress: 'x' })\n"
    )
    expect(await project.compile(['wrong.ts'])).toContain("'adress' does not exist in type 'ClientInit'")
  })

  test('has a client for browsers', async () => {
    const [example] = examplesOf('node/client/index.ts')
    await project.write('page.ts', example!.replace('process.stdout.write', 'console.log'))
    const browser = {
      lib: ['es2024', 'esnext.disposable', 'dom'],
      types: [],
      module: 'esnext',
      moduleResolution: 'bundler'
    }
    expect(await project.compile(['page.ts'], browser)).toBe('')
  })

  test('answers with the bundled model', async () => {
    await project.write('program.ts', PROGRAM)
    const { status, stdout, stderr } = await project.run('program.ts')
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(JSON.parse(stdout)).toEqual({
      text: 'A thermostat keeps a room at the temperature',
      feasible: true,
      page: 200,
      models: ['edgeshard-tiny', 'edgeshard-tiny-draft']
    })
  })

  const old = olderNode()
  test.skipIf(old === undefined)('says to a Node that is too old which one it needs', async () => {
    await project.write(
      'old.mjs',
      "import { createNode } from 'edgeshard'\nawait createNode({ home: 'nowhere' }).catch(error => console.log(error.code, error.message))\n"
    )
    const { status, stdout } = await project.run('old.mjs', old)
    expect(status).toBe(0)
    expect(stdout).toMatch(/^node_too_old .*needs Node 22\.18 or newer/)
    const light = ['edgeshard/client', 'edgeshard/plan', 'edgeshard/http']
    await project.write('light.mjs', light.map(name => `await import('${name}')\n`).join(''))
    expect(await project.run('light.mjs', old)).toEqual({ status: 0, stdout: '', stderr: '' })
  })
})

/** A Node below 22.18 that this device has, besides the one that runs this. */
function olderNode(): string | undefined {
  const found = (process.env.PATH ?? '')
    .split(delimiter)
    .filter(folder => !folder.includes('node_modules'))
    .map(folder => join(folder, 'node'))
    .find(path => existsSync(path))
  if (found === undefined) return undefined
  const [major = 0, minor = 0] = execFileSync(found, ['--version'], { encoding: 'utf8' })
    .slice(1)
    .split('.')
    .map(Number)
  return major < 22 || (major === 22 && minor < 18) ? found : undefined
}
