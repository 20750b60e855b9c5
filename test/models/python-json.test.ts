import { expect, test } from 'vitest'
import { parsePythonJson } from '../../models/formats/python-json.ts'

test('numbers without an end are read as Python writes them, and texts stay what they are', () => {
  const text = '{"a": [0.0, Infinity], "b": -Infinity, "c": "Infinity \\" Infinity"}'
  expect(parsePythonJson(text)).toEqual({ a: [0, Infinity], b: -Infinity, c: 'Infinity " Infinity' })
  expect(parsePythonJson('{"a": [0, {"__float__": "Infinity"}]}')).toEqual({ a: [0, Infinity] })
  expect(parsePythonJson('{"a": {"__float__": "Infinity", "b": 1}}')).toEqual({
    a: { __float__: 'Infinity', b: 1 }
  })
})

test.each(['{"a": NaN}', '{"a": Infinity', '{"a": Infinityx}', "{'a': 1}"])('%s is no JSON', text => {
  expect(() => parsePythonJson(text)).toThrow(SyntaxError)
})
