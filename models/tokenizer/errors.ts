/** tokenizer.json or tokenizer_config.json cannot be used; the message names the file and what is wrong in it. */
export class TokenizerError extends Error {
  override readonly name = 'TokenizerError'
  readonly code = 'tokenizer_unusable'
}

/** The model's chat template is missing, broken or refuses the conversation. */
export class ChatTemplateError extends Error {
  override readonly name = 'ChatTemplateError'
  readonly code = 'chat_template'
}

/** A template or pattern of the model ran past its deadline; its process was ended. */
export class TokenizerTimeoutError extends Error {
  override readonly name = 'TokenizerTimeoutError'
  readonly code = 'too_slow'
}

/** A text that cannot fit the model's context, however it is encoded: it is not even tried. */
export class TextTooLongError extends Error {
  override readonly name = 'TextTooLongError'
  readonly code = 'context_length_exceeded'
}
