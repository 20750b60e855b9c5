import * as z from 'zod'
import { TOKEN_HEADER } from '../client/token.ts'
import { METHODS } from '../plan/problem.ts'
import { scenarioSchema } from '../plan/scenario.ts'
import { VERSION } from '../version.ts'
import { countSchema, messagesSchema } from './anthropic/schema.ts'
import { drainBody } from './drain-routes.ts'
import { codeBody } from './grant-routes.ts'
import { banBody, nothing, peerBody } from './membership-routes.ts'
import {
  gatheringSchema,
  generateSchema,
  loadSchema,
  scenarioNeedsSchema,
  tokenizeSchema
} from './mesh-schema.ts'
import { ollamaEmbeddingsSchema, ollamaEmbedSchema } from './ollama/embed.ts'
import { showSchema } from './ollama/routes.ts'
import { ollamaChatSchema, ollamaGenerateSchema } from './ollama/schema.ts'
import { embeddingsSchema } from './openai/embeddings.ts'
import { responsesSchema } from './openai/responses-schema.ts'
import { chatSchema, completionSchema } from './openai/schema.ts'

/** What an answer comes as: whole, as server-sent events, or as one JSON document a line. */
type Media = 'application/json' | 'text/event-stream' | 'application/x-ndjson' | 'text/plain'

interface Operation {
  method: 'get' | 'post'
  path: string
  summary: string
  body?: z.ZodType
  query?: z.ZodObject
  /** @default ['application/json'] */
  media?: Media[]
  /** No key is asked for. */
  open?: true
  /** Asks for the token of the home, too. */
  owner?: true
}

const STREAMED: Media[] = ['application/json', 'text/event-stream']
const LINES: Media[] = ['application/json', 'application/x-ndjson']

/** All that the API answers, but for the page and for what it refuses by name. */
const OPERATIONS: readonly Operation[] = [
  { method: 'get', path: '/health', summary: 'Whether the process serves.', open: true },
  { method: 'get', path: '/healthz', summary: 'The same.', open: true },
  { method: 'get', path: '/readyz', summary: 'Whether a prompt can be answered now.', open: true },
  { method: 'get', path: '/openapi.json', summary: 'This document.', open: true },
  { method: 'get', path: '/metrics', summary: 'Figures for Prometheus.', media: ['text/plain'] },
  // OpenAI's.
  { method: 'get', path: '/v1/models', summary: 'What the mesh can be prompted with.' },
  { method: 'get', path: '/v1/models/{name}', summary: 'One of them.' },
  {
    method: 'post',
    path: '/v1/chat/completions',
    summary: 'An answer in a conversation.',
    body: chatSchema,
    media: STREAMED
  },
  {
    method: 'post',
    path: '/v1/completions',
    summary: 'What follows on a text.',
    body: completionSchema,
    media: STREAMED
  },
  {
    method: 'post',
    path: '/v1/responses',
    summary: 'An answer, as items.',
    body: responsesSchema,
    media: STREAMED
  },
  { method: 'post', path: '/v1/embeddings', summary: 'Vectors of texts.', body: embeddingsSchema },
  // Anthropic's.
  {
    method: 'post',
    path: '/v1/messages',
    summary: 'An answer in a conversation.',
    body: messagesSchema,
    media: STREAMED
  },
  { method: 'post', path: '/v1/messages/count_tokens', summary: 'How long a prompt is.', body: countSchema },
  // Ollama's.
  { method: 'get', path: '/api/version', summary: "The version of Ollama's API, and of this node." },
  { method: 'get', path: '/api/tags', summary: 'What the mesh can be prompted with.' },
  { method: 'get', path: '/api/ps', summary: 'What is loaded.' },
  { method: 'post', path: '/api/show', summary: 'What is known of a model.', body: showSchema },
  {
    method: 'post',
    path: '/api/chat',
    summary: 'An answer in a conversation.',
    body: ollamaChatSchema,
    media: LINES
  },
  { method: 'post', path: '/api/embed', summary: 'Vectors of texts.', body: ollamaEmbedSchema },
  { method: 'post', path: '/api/embeddings', summary: 'A vector of a text.', body: ollamaEmbeddingsSchema },
  // Of this project.
  {
    method: 'post',
    path: '/api/generate',
    summary:
      "An answer with all that the node reports of it; with `prompt` in the place of `input`, Ollama's.",
    query: gatheringSchema,
    body: z.union([generateSchema, ollamaGenerateSchema]),
    media: LINES
  },
  { method: 'post', path: '/api/load', summary: 'Loads a model before it is asked.', body: loadSchema },
  { method: 'post', path: '/api/tokenize', summary: 'Ids of a text as a raw prompt.', body: tokenizeSchema },
  {
    method: 'get',
    path: '/api/models',
    summary: 'What the mesh can be prompted with, and who holds which layers.'
  },
  { method: 'get', path: '/api/mesh', summary: 'Devices, links, leases and plans, as this node sees them.' },
  {
    method: 'get',
    path: '/api/events',
    summary: 'The same, then what changes in it.',
    media: ['text/event-stream']
  },
  {
    method: 'get',
    path: '/api/scenario',
    summary: 'The mesh as a scenario of the planner.',
    query: scenarioNeedsSchema
  },
  {
    method: 'get',
    path: '/api/plan',
    summary: "The planner's answer for this mesh, with its reasons.",
    query: scenarioNeedsSchema
  },
  {
    method: 'post',
    path: '/api/plan',
    summary: "The planner's answer for any scenario.",
    body: scenarioSchema.extend({ method: z.enum(METHODS).optional() })
  },
  { method: 'get', path: '/api/invite', summary: 'A ticket for another device.', owner: true },
  { method: 'post', path: '/api/invite', summary: 'A ticket for another device.', owner: true },
  { method: 'get', path: '/api/pairing', summary: 'Whether pairing is open, and its code.', owner: true },
  { method: 'post', path: '/api/pairing', summary: 'Opens pairing for two minutes.', owner: true },
  {
    method: 'get',
    path: '/api/pairing/command',
    summary: 'What is typed on the device that joins, and that as a QR code.',
    owner: true
  },
  { method: 'post', path: '/api/pairing/close', summary: 'Closes pairing.', owner: true },
  {
    method: 'post',
    path: '/api/page/code',
    summary: 'A code for the page, good for pairing, once.',
    owner: true
  },
  {
    method: 'post',
    path: '/api/page/grant',
    summary: "What the page may pair with, for such a code; on the node's device alone.",
    body: codeBody
  },
  { method: 'get', path: '/api/drain', summary: 'How far the node is drained.', owner: true },
  { method: 'post', path: '/api/drain', summary: 'Drains the node.', body: drainBody, owner: true },
  { method: 'post', path: '/api/drain/undo', summary: 'Takes that back.', body: nothing, owner: true },
  {
    method: 'get',
    path: '/api/membership',
    summary: 'Who is in the mesh, and who admitted each.',
    owner: true
  },
  { method: 'get', path: '/api/membership/bans', summary: 'Who is banned.', owner: true },
  { method: 'post', path: '/api/membership/ban', summary: 'Bans a device.', body: banBody, owner: true },
  {
    method: 'post',
    path: '/api/membership/unban',
    summary: 'Lets a device in again.',
    body: peerBody,
    owner: true
  },
  {
    method: 'post',
    path: '/api/membership/promote',
    summary: 'Makes a device an owner.',
    body: peerBody,
    owner: true
  },
  {
    method: 'post',
    path: '/api/membership/rotate',
    summary: "Changes the mesh's secret.",
    body: nothing,
    owner: true
  }
]

const ABOUT =
  'What a node of EdgeShard answers over HTTP. Paths below /v1 answer without it, too. Streams and errors have the form of the API that ' +
  'a path belongs to; errors of this project are {"error":{"message","type","code","param"}}. Keys are asked for where the node was ' +
  'given some.'

/**
 * The document at `/openapi.json` (OpenAPI 3.1): bodies and queries are the very schemas that the routes read them with, as
 * far as JSON schema can say them. What is refused by name is not in it.
 */
export function openApiDocument(): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {}
  for (const operation of OPERATIONS) {
    const methods = paths[operation.path] ?? {}
    methods[operation.method] = described(operation)
    paths[operation.path] = methods
  }
  return {
    openapi: '3.1.0',
    info: { title: 'EdgeShard', version: VERSION, description: ABOUT },
    paths,
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer' },
        key: { type: 'apiKey', in: 'header', name: 'x-api-key' },
        token: {
          type: 'apiKey',
          in: 'header',
          name: TOKEN_HEADER,
          description: "What api-token in the node's home holds; of pairing also a grant of /api/page/grant."
        }
      }
    }
  }
}

function described({
  path,
  summary,
  body,
  query,
  media = ['application/json'],
  open,
  owner
}: Operation): object {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!)
  const content = Object.fromEntries(media.map(each => [each, {}]))
  return {
    summary,
    security:
      open === true
        ? []
        : owner === true
          ? [{ token: [] }]
          : [{ bearer: [] }, { key: [] }, { token: [] }, {}],
    parameters: [
      ...names.map(name => ({ name, in: 'path', required: true, schema: { type: 'string' } })),
      ...(query === undefined ? [] : parametersOf(query))
    ],
    ...(body !== undefined && {
      requestBody: { required: true, content: { 'application/json': { schema: schemaOf(body, 'input') } } }
    }),
    responses: {
      200: { description: summary, content },
      default: { description: 'What went wrong, and what to do.', content: { 'application/json': {} } }
    }
  }
}

/** A query is text: what its numbers have to be only the read form says. */
function parametersOf(query: z.ZodObject): object[] {
  return Object.entries(query.shape).map(([name, field]) => ({
    name,
    in: 'query',
    required: false,
    schema: schemaOf(field as z.ZodType, 'output')
  }))
}

/** What JSON schema cannot say is any value there. */
function schemaOf(schema: z.ZodType, io: 'input' | 'output'): Record<string, unknown> {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: 'any' })
  return rest
}
