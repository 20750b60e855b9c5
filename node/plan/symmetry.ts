/** Devices that are the same in every figure, of which only the first unused one need be tried. */
import type { Chain } from './chain.ts'

/** The candidate before each that is the same in every figure, or -1. */
export function twins(chain: Chain, candidates: readonly number[]): number[] {
  return candidates.map((k, c) => {
    for (let earlier = c - 1; earlier >= 0; earlier--) {
      if (interchangeable(chain, candidates[earlier]!, k)) return earlier
    }
    return -1
  })
}

export function interchangeable(chain: Chain, a: number, b: number): boolean {
  const { devices, layers, computeMs, lastFit, slowness, delayMs, atSource } = chain
  const width = layers + 1
  if (atSource[a] !== atSource[b]) return false
  for (let i = 0; i <= layers; i++) {
    if (computeMs[a * width + i] !== computeMs[b * width + i]) return false
    if (lastFit[a * width + i] !== lastFit[b * width + i]) return false
  }
  const same = (from: number, to: number, from2: number, to2: number): boolean =>
    slowness[from * devices + to] === slowness[from2 * devices + to2] &&
    delayMs[from * devices + to] === delayMs[from2 * devices + to2]
  if (!same(a, b, b, a)) return false
  for (let x = 0; x < devices; x++) {
    if (x !== a && x !== b && !(same(a, x, b, x) && same(x, a, x, b))) return false
  }
  return true
}
