import { readdirSync, readFileSync } from 'node:fs'

/** What the operating system knows of a node's process. */
export interface ProcessState {
  rssBytes: number
  threads: number
  /** Open sockets and files. */
  descriptors: number
  children: number
}

/** The state of a process of this machine, whichever namespace its network is in; Linux only. */
export function processState(pid: number): ProcessState {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const field = (name: string) => Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(status)![1])
  return {
    rssBytes: field('VmRSS') * 1024,
    threads: field('Threads'),
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    children: childrenOf(pid).length
  }
}

/** Resident bytes of a process and of all that it has started: a node may run below a launcher, and has its tokenizer's. */
export function residentBytes(pid: number): number {
  return childrenOf(pid).reduce((sum, child) => sum + residentBytes(child), processState(pid).rssBytes)
}

function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`)
    .map(task => readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8'))
    .flatMap(line => line.split(' ').filter(child => child !== ''))
    .map(Number)
}
