import { expect, test } from 'vitest'
import { buildChain, type Chain } from '../../../node/plan/chain.ts'
import { parseScenario } from '../../../node/plan/index.ts'
import { relax } from '../../../node/plan/relax.ts'
import { type SearchResult, search } from '../../../node/plan/search.ts'
import { scopeOf } from '../../../node/plan/solve.ts'
import { instance } from '../../bench/plan-instances.ts'

function chainOf(seed: number): Chain {
  const { layers, ...rest } = { devices: 7, layers: 14, mixed: true, turns: true }
  return buildChain(parseScenario(instance(seed, { ...rest, layers })), { kind: 'tpot', batch: 1 })
}

/** The whole search, which is over when it has asked so often whether it is. */
function searchUntil(
  chain: Chain,
  asks: number,
  onExpired = () => {}
): { result: SearchResult; asked: number } {
  let asked = 0
  const expired = () => {
    const isOver = asked++ >= asks
    if (isOver) onExpired()
    return isOver
  }
  const scope = scopeOf(chain, { frontLo: chain.frontMin, frontHi: chain.frontMin })
  const relaxation = relax(chain, scope, new Float64Array(chain.devices).fill(0.5))
  const limits = { target: Number.POSITIVE_INFINITY, width: 1e6, total: 1e6, expired }
  return { result: search(chain, scope, relaxation, limits), asked }
}

test('a search that ends before its time claims no more than it has proven', () => {
  for (const seed of [1, 2, 3]) {
    const chain = chainOf(seed)
    const whole = searchUntil(chain, Number.POSITIVE_INFINITY)
    const bestMs = whole.result.found!.costMs
    expect(whole.result.bound).toBe(bestMs)
    expect(whole.asked).toBeGreaterThan(30)
    for (let asks = 0; asks < whole.asked; asks++) {
      const { bound, found } = searchUntil(chain, asks).result
      expect(bound).toBeLessThanOrEqual(bestMs)
      expect(bound).toBeGreaterThan(0)
      if (found !== undefined) expect(found.costMs).toBeGreaterThanOrEqual(bestMs)
    }
  }
})

test('a search whose time is up looks at nothing more', () => {
  const known = chainOf(1)
  const { asked } = searchUntil(known, Number.POSITIVE_INFINITY)
  for (let asks = 0; asks < asked; asks += 5) {
    let isOver = false
    let looked = 0
    // Each label's layers are looked for by what fits its device.
    const chain = {
      ...known,
      get lastFit() {
        if (isOver) looked++
        return known.lastFit
      }
    }
    searchUntil(chain, asks, () => {
      isOver = true
    })
    expect(looked).toBe(0)
  }
})
