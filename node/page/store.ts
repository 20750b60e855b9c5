import { useEffect, useState } from 'preact/hooks'

/** A value that parts of the page watch; setting it to what it is already wakes nobody. */
export class Store<T> {
  #value: T
  readonly #watchers = new Set<() => void>()

  constructor(value: T) {
    this.#value = value
  }

  get value(): T {
    return this.#value
  }

  set(value: T): void {
    if (Object.is(value, this.#value)) return
    this.#value = value
    for (const watcher of [...this.#watchers]) watcher()
  }

  /** Calls `watcher` after each change; the function ends that. */
  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher)
    return () => this.#watchers.delete(watcher)
  }
}

/** The value of a store for a component, which is drawn again when it changes. */
export function useStore<T>(store: Store<T>): T {
  return useOf(store, whole)
}

/** What is made of a store's value, for a component that is drawn again when that changes: `of` is the same each time. */
export function useOf<T, R>(store: Store<T>, of: (value: T) => R): R {
  const [made, setMade] = useState(() => ({ value: of(store.value) }))
  useEffect(() => {
    const take = () => {
      const value = of(store.value)
      setMade(old => (Object.is(old.value, value) ? old : { value }))
    }
    take()
    return store.watch(take)
  }, [store, of])
  return made.value
}

const whole = <T>(value: T): T => value
