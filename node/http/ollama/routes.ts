import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import * as z from 'zod'
import type { EdgeNode, ModelSummary } from '../../api.ts'
import { BusyError, RequestError, UnknownModelError } from '../../errors.ts'
import { VERSION } from '../../version.ts'
import { answerAs, ignoredHeader } from '../answer.ts'
import { askedAs } from '../asked-as.ts'
import { embedFor, vectorsBody } from '../embeddings.ts'
import { parse } from '../fields.ts'
import { loadFor } from '../load.ts'
import { type Components, type HttpContext, jsonBody } from '../request.ts'
import { ollamaForm, ollamaPiece } from './answers.ts'
import { embedAnswer, parseEmbed } from './embed.ts'
import { ollamaError } from './errors.ts'
import { ollamaModel, ollamaRunning, ollamaShow } from './models.ts'
import { type OllamaKind, parseOllama } from './schema.ts'

/** The version of Ollama whose API this is like: clients refuse older ones. */
const OLLAMA_VERSION = '0.12.6'

export const showSchema = z.union([
  z.object({ model: z.string().min(1).max(512) }),
  z.object({ name: z.string().min(1).max(512) }).transform(({ name }) => ({ model: name }))
])

/** Parts of Ollama's API that are not done, and what does the same. */
const UNDONE: [method: 'POST' | 'DELETE', path: string, instead: string][] = [
  ['POST', '/pull', 'use "edgeshard pull" on a device of the mesh'],
  ['POST', '/push', 'models are not published from here'],
  ['POST', '/create', 'use "edgeshard import" on a device of the mesh'],
  ['POST', '/copy', 'use "edgeshard import --name" on a device of the mesh'],
  ['DELETE', '/delete', 'use "edgeshard rm" on the device that holds the model']
]

/** What programs that only know Ollama's API need; /api/generate is shared with this project's own. */
export function ollamaRoutes(components: Components): Hono<{ Bindings: HttpBindings }> {
  const { node } = components
  const routes = new Hono<{ Bindings: HttpBindings }>()
    .get('/version', context => context.json({ version: OLLAMA_VERSION, edgeshard: VERSION }))
    .get('/tags', async context => {
      const models = await node.models()
      return context.json({ models: models.map(model => ollamaModel(model, askedAs(model, models))) })
    })
    .get('/ps', async context => {
      const models = await node.models()
      const running = node.mesh().deployments.flatMap(deployment => {
        const model = models.find(({ id }) => id === deployment.modelId)
        return model === undefined ? [] : [ollamaRunning(deployment, model, askedAs(model, models))]
      })
      return context.json({ models: running })
    })
    .post('/show', async context => {
      const { model: asked } = parse(showSchema, await jsonBody(context))
      const { signal } = context.req.raw
      const model = await summaryOf(node, asked.replace(/:latest$/, ''), signal)
      return context.json(ollamaShow(model, await node.chatTemplate(model.id, { signal })))
    })
    .post('/chat', async context => ollamaAnswer(context, components, 'chat', await jsonBody(context)))
  for (const kind of ['embed', 'embeddings'] as const) {
    routes.post(`/${kind}`, async context => {
      const { request, name, ignored } = parseEmbed(kind, await jsonBody(context))
      const beganMs = performance.now()
      const { result, headers } = await embedFor(context, components, request)
      const pieces = embedAnswer(kind, result, { name, tookMs: performance.now() - beganMs })
      return vectorsBody(context, pieces, { ...headers, ...ignoredHeader(ignored) })
    })
  }
  for (const [method, path, instead] of UNDONE) {
    routes.on(method, path, () => {
      throw new RequestError(`/api${path} is not supported: ${instead}`)
    })
  }
  return routes
}

async function summaryOf(node: EdgeNode, name: string, signal: AbortSignal): Promise<ModelSummary> {
  const { id } = await node.manifest(name, { signal })
  const found = (await node.models()).find(model => model.id === id)
  if (found === undefined)
    throw new UnknownModelError(`no device of this mesh holds a model called "${name}"`)
  return found
}

/** True for a body of Ollama's /api/generate; this project's own has `input`. */
export function isOllamaBody(body: unknown): boolean {
  return typeof body === 'object' && body !== null && 'model' in body && !('input' in body)
}

/** Whether a model that was not loaded ahead is loaded all the same for whoever asks it: others have the devices now, or nothing stays. */
function mayBeAsked(error: unknown): boolean {
  return error instanceof BusyError || (error instanceof RequestError && error.param === 'keepAliveMs')
}

/** Answers in Ollama's form, errors included. */
export async function ollamaAnswer(
  context: HttpContext,
  components: Components,
  kind: OllamaKind,
  body: unknown
): Promise<Response> {
  try {
    const { request, load, model, name, ...asked } = parseOllama(kind, body)
    if (request !== null) {
      return await answerAs(ollamaForm(kind, name), { ...asked, request }, context, components)
    }
    const isLetGo = load.keepAliveMs === 0
    if (isLetGo) await components.node.keepAlive(model, 0)
    else
      await loadFor(context, components, { ...load, model }).catch(error => {
        if (!mayBeAsked(error)) throw error
      })
    const done_reason = isLetGo ? 'unload' : 'load'
    const ready = { ...ollamaPiece(kind, name, { text: '' }), done: true, done_reason }
    return context.json(ready, 200, ignoredHeader(asked.ignored))
  } catch (error) {
    const { status, body } = ollamaError(error)
    return context.json(body, status)
  }
}
