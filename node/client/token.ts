/** Carries the token of a node's home (`api-token` there) to that node. */
export const TOKEN_HEADER = 'x-edgeshard-token'
