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
  const [value, setValue] = useState(() => ({ value: store.value }))
  useEffect(() => {
    const take = () => setValue(old => (Object.is(old.value, store.value) ? old : { value: store.value }))
    take()
    return store.watch(take)
  }, [store])
  return value.value
}
