import { expect, test } from 'vitest'
import {
  allMemory,
  besideFor,
  bitsClassOf,
  timesOn,
  usedFor,
  usedName
} from '../../node/record-processors.ts'

const MODEL = 'a'.repeat(64)
const OTHER = 'b'.repeat(64)
const CPU = { kind: 'cpu', name: 'a processor', used: false }
const GPU = { kind: 'gpu', name: 'a card', used: true }
const times = (decodeMs: number) => ({ decoder: { decodeMs, prefillMsPerToken: 1 } })
const BOTH = [{ ...CPU, memory: { budgetBytes: 8, freeBytes: 4 }, profiles: { [MODEL]: times(7) } }, GPU]

test('a class is of the processor that is used, and of what trying its kernels has found', () => {
  expect(bitsClassOf({}, MODEL)).toBeUndefined()
  const resting = [
    { ...CPU, used: true },
    { ...GPU, used: false }
  ]
  expect(bitsClassOf({ processors: resting }, MODEL)).toBeUndefined()
  expect(bitsClassOf({ processors: [CPU, GPU] }, MODEL)).toBe('gpu')
  expect(bitsClassOf({ processors: [CPU, { ...GPU, keepsBits: false }] }, MODEL)).toBe('gpu')
  expect(bitsClassOf({ processors: [CPU, { ...GPU, keepsBits: true }] }, MODEL)).toBe('gpu-exact')
})

test('a model that the CPU has for the GPU is of its class, and those beside it are not', () => {
  const processors = [CPU, { ...GPU, refuses: [MODEL] }]
  expect(bitsClassOf({ processors }, MODEL)).toBeUndefined()
  expect(usedFor({ processors }, MODEL)).toBe(CPU)
  expect(bitsClassOf({ processors }, OTHER)).toBe('gpu')
})

test('a stage that names a processor is of its class', () => {
  expect(bitsClassOf({ processors: BOTH }, MODEL, 'cpu')).toBeUndefined()
  expect(bitsClassOf({ processors: BOTH }, MODEL, 'gpu')).toBe('gpu')
  expect(bitsClassOf({ processors: BOTH }, MODEL)).toBe('gpu')
})

test('another processor computes beside the one that is used where it has memory of its own', () => {
  expect(besideFor({ processors: BOTH }, MODEL)).toBe(BOTH[0])
  expect(usedName({ processors: BOTH }, MODEL)).toBe('gpu')
  const without = [
    undefined,
    [CPU, GPU],
    // Both would be the CPU.
    [BOTH[0]!, { ...GPU, refuses: [MODEL] }],
    [
      { ...BOTH[0]!, used: true },
      { ...GPU, used: false }
    ],
    [BOTH[0]!]
  ]
  for (const processors of without) {
    expect(besideFor({ processors }, MODEL)).toBeUndefined()
    expect(usedName({ processors }, MODEL)).toBeUndefined()
  }
})

test('times are of the processor that is named', () => {
  const record = { profiles: { [MODEL]: times(1) }, processors: BOTH }
  expect(timesOn(record, MODEL, undefined)).toEqual(times(1))
  expect(timesOn(record, MODEL, 'gpu')).toEqual(times(1))
  expect(timesOn(record, MODEL, 'cpu')).toEqual(times(7))
  expect(timesOn(record, OTHER, 'cpu')).toBeUndefined()
  expect(timesOn({ profiles: record.profiles }, MODEL, undefined)).toEqual(times(1))
})

test('all processors together have what each has', () => {
  const memory = { budgetBytes: 10, freeBytes: 1 }
  expect(allMemory({ memory })).toEqual(memory)
  expect(allMemory({ memory, processors: BOTH })).toEqual({ budgetBytes: 18, freeBytes: 5 })
})
