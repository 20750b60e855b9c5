/** Begins the name of every variable that a command of this project reads. */
const PREFIX = 'EDGESHARD_'
/** What the log says is for whoever looks on; what begins like the last is read by tests' own processes. */
const PASSED_ON = ['EDGESHARD_LOG_LEVEL', 'EDGESHARD_LOG_FORMAT', 'EDGESHARD_TEST_']

/**
 * The environment of a node that is started for a while: this process's own, without what sets options of the node of this
 * device (its ports, peers, keys, audit log), and with what ties the node to this process.
 */
export function nodeEnvironment(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const passed = Object.entries(environment).filter(
    ([name]) => !name.toUpperCase().startsWith(PREFIX) || PASSED_ON.some(known => name.startsWith(known))
  )
  return { ...Object.fromEntries(passed), EDGESHARD_TIED: '1' }
}
