import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import type { ModelSummary } from '../../api.ts'
import { RequestError, UnknownModelError } from '../../errors.ts'
import { type Asked, answerAs, ignoredHeader } from '../answer.ts'
import { askedAs } from '../asked-as.ts'
import { embedFor, vectorsBody } from '../embeddings.ts'
import { type Components, jsonBody } from '../request.ts'
import { headOf } from './answers.ts'
import { answerChoices } from './choices.ts'
import { embeddingsAnswer, parseEmbeddings } from './embeddings.ts'
import { responsesForm } from './responses.ts'
import { parseResponses } from './responses-schema.ts'
import { parseChat, parseCompletion } from './schema.ts'

/** /v1: OpenAI's API as far as a mesh can answer it. */
export function openAiRoutes(components: Components): Hono<{ Bindings: HttpBindings }> {
  const routes = answeredRoutes(components)
  for (const path of UNDONE) {
    routes.post(path, () => {
      throw new RequestError(
        `/v1${path} is not supported: this mesh answers with text and embeddings, and with nothing else`
      )
    })
  }
  return routes
}

/** Parts of OpenAI's API, and of those like it, that are not done. */
const UNDONE = [
  ...['/rerank', '/moderations', '/images/generations', '/images/edits', '/images/variations'],
  ...['/audio/speech', '/audio/transcriptions', '/audio/translations', '/files', '/batches', '/assistants']
]

function answeredRoutes(components: Components): Hono<{ Bindings: HttpBindings }> {
  const { node } = components
  const modelOf = async ({ request }: { request: Pick<Asked['request'], 'model'> }) =>
    request.model ?? (await node.manifest(undefined)).name
  return new Hono<{ Bindings: HttpBindings }>()
    .get('/models', async context => {
      const models = await node.models()
      return context.json({ object: 'list', data: models.map(model => modelEntry(model, models)) })
    })
    .get('/models/:name{.+}', async context => {
      const name = context.req.param('name')
      const models = await node.models()
      const found = models.find(model => askedAs(model, models) === name || model.id === name)
      if (found === undefined) {
        // Which says, too, where several have that name.
        await node.manifest(name)
        throw new UnknownModelError(`no device of this mesh holds a model called "${name}"`)
      }
      return context.json(modelEntry(found, models))
    })
    .post('/chat/completions', async context => {
      const asked = parseChat(await jsonBody(context))
      return await answerChoices(headOf('chat', await modelOf(asked)), asked, context, components)
    })
    .post('/responses', async context => {
      const asked = parseResponses(await jsonBody(context))
      return await answerAs(responsesForm(await modelOf(asked), asked), asked, context, components)
    })
    .post('/embeddings', async context => {
      const asked = parseEmbeddings(await jsonBody(context))
      const model = await modelOf(asked)
      const { result, headers } = await embedFor(context, components, asked.request)
      const pieces = embeddingsAnswer(result, { model, format: asked.format })
      return vectorsBody(context, pieces, { ...headers, ...ignoredHeader(asked.ignored) })
    })
    .post('/completions', async context => {
      const asked = parseCompletion(await jsonBody(context))
      return await answerChoices(headOf('completion', await modelOf(asked)), asked, context, components)
    })
}

function modelEntry(model: ModelSummary, models: readonly ModelSummary[]) {
  const { name, id, architecture, precision, contextLength, weightBytes, holders } = model
  const edgeshard = { name, id, architecture, precision, contextLength, weightBytes, holders }
  return { id: askedAs(model, models), object: 'model', created: 0, owned_by: 'edgeshard', edgeshard }
}
