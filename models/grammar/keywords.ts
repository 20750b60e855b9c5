/** Keywords of JSON Schema that say something of an object's parts. */
export const OF_OBJECTS = [
  'properties',
  'required',
  'additionalProperties',
  'unevaluatedProperties',
  'minProperties',
  'maxProperties'
] as const

/** The same of a list's parts. */
export const OF_LISTS = ['items', 'prefixItems', 'additionalItems', 'minItems', 'maxItems'] as const
