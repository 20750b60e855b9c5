/** Begins the fragment of a link to the page that carries a code for pairing: a fragment is sent to nobody. */
export const PAGE_CODE_FRAGMENT = '#pair='
