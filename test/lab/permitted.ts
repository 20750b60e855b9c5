import { execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'

/** Why there can be no lab here, or null. */
export function labProblem(): string | null {
  if (process.platform !== 'linux') return 'network namespaces are a thing of Linux'
  const name = `eslab-try-${process.pid}`
  try {
    execFileSync('cc', ['--version'], { stdio: 'ignore' })
  } catch {
    return 'no C compiler for test/lab/meshlink.c'
  }
  try {
    execFileSync('ip', ['netns', 'add', name], { stdio: 'ignore' })
    execFileSync(
      'nsenter',
      [`--net=/run/netns/${name}`, 'ip', 'tuntap', 'add', 'dev', 'try0', 'mode', 'tun'],
      { stdio: 'ignore' }
    )
    return null
  } catch {
    return 'this user may not make network namespaces or TUN devices'
  } finally {
    try {
      execFileSync('ip', ['netns', 'del', name], { stdio: 'ignore' })
    } catch {
      rmSync(`/run/netns/${name}`, { force: true })
    }
  }
}
