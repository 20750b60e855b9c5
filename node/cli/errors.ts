/** The command line or a file it names is wrong: exit status 2. */
export class InputError extends Error {
  override readonly name = 'InputError'
}

/** Nothing can hold the model, or nobody was found: exit status 3. The JSON answer has already been printed. */
export class InfeasibleError extends Error {
  override readonly name = 'InfeasibleError'
}
