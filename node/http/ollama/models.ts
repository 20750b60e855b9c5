import { namesTools, syntaxOf } from '../../../models/reply/syntax.ts'
import type { DeploymentState, ModelSummary } from '../../api.ts'

type Json = Record<string, unknown>

/** What Ollama's clients know a model by: a name without a tag has the tag `latest`. */
export function tagged(name: string): string {
  return name.includes(':') ? name : `${name}:latest`
}

/** An entry of Ollama's /api/tags; `name` is what a client asks for the model by. */
export function ollamaModel({ id, weightBytes, ...model }: ModelSummary, name: string): Json {
  return {
    name: tagged(name),
    model: tagged(name),
    modified_at: new Date(0).toISOString(),
    size: weightBytes,
    digest: id,
    details: detailsOf(model)
  }
}

/** An entry of /api/ps: a model that this node has placed. */
export function ollamaRunning(deployment: DeploymentState, model: ModelSummary, name: string): Json {
  const bytes = deployment.plan.stages.reduce((sum, { weightBytes }) => sum + weightBytes, 0)
  return {
    name: tagged(name),
    model: tagged(name),
    size: bytes,
    size_vram: 0,
    digest: model.id,
    details: detailsOf(model),
    // It stays until others need its memory, or as long as the node was told.
    expires_at: '9999-12-31T00:00:00Z',
    context_length: model.contextLength
  }
}

/** The answer of /api/show. */
export function ollamaShow(model: ModelSummary, template: string | null): Json {
  const { architecture, contextLength, decoderLayers } = model
  return {
    modelfile: '',
    parameters: '',
    template: template ?? '',
    details: detailsOf(model),
    model_info: {
      'general.architecture': architecture,
      'general.basename': model.name,
      [`${architecture}.context_length`]: contextLength,
      [`${architecture}.block_count`]: decoderLayers
    },
    capabilities: capabilitiesOf(template),
    modified_at: new Date(0).toISOString()
  }
}

/** Where a template names no tools they still work, in a generic form; programs need not count on it. */
function capabilitiesOf(template: string | null): string[] {
  if (template === null) return ['completion']
  const thinks = syntaxOf(template).thoughts !== undefined || syntaxOf(template).calls === 'harmony'
  return ['completion', ...(namesTools(template) ? ['tools'] : []), ...(thinks ? ['thinking'] : [])]
}

function detailsOf({ architecture, precision }: Pick<ModelSummary, 'architecture' | 'precision'>): Json {
  return {
    parent_model: '',
    format: 'edgeshard',
    family: architecture,
    families: [architecture],
    parameter_size: '',
    quantization_level: precision
  }
}
