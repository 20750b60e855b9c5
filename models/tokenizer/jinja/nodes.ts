/** What @huggingface/jinja's parser makes of a template, as far as it is read here. */
export type Statement =
  | { type: 'If'; test: Expression; body: Statement[]; alternate: Statement[] }
  | {
      type: 'For'
      loopvar: Expression
      iterable: Expression
      body: Statement[]
      defaultBlock: Statement[]
    }
  | { type: 'Break' | 'Continue' | 'Comment' }
  | { type: 'Set'; assignee: Expression; value: Expression | null; body: Statement[] }
  | { type: 'Macro'; name: Identifier; args: Parameter[]; body: Statement[] }
  | { type: 'CallStatement'; call: CallNode; callerArgs: Parameter[] | null; body: Statement[] }
  | { type: 'FilterStatement'; filter: Identifier | CallNode; body: Statement[] }
  | Expression

export type Expression =
  | Identifier
  | CallNode
  | { type: 'IntegerLiteral' | 'FloatLiteral'; value: number }
  | { type: 'StringLiteral'; value: string }
  | { type: 'ArrayLiteral' | 'TupleLiteral'; value: Expression[] }
  | { type: 'ObjectLiteral'; value: Map<Expression, Expression> }
  | { type: 'MemberExpression'; object: Expression; property: Expression | Slice; computed: boolean }
  | { type: 'BinaryExpression'; operator: { value: string }; left: Expression; right: Expression }
  | { type: 'UnaryExpression'; operator: { value: string }; argument: Expression }
  | { type: 'FilterExpression'; operand: Expression; filter: Identifier | CallNode }
  | { type: 'TestExpression'; operand: Expression; negate: boolean; test: Identifier }
  | { type: 'SelectExpression'; lhs: Expression; test: Expression }
  | { type: 'Ternary'; condition: Expression; trueExpr: Expression; falseExpr: Expression }

export interface Identifier {
  type: 'Identifier'
  value: string
}

export interface CallNode {
  type: 'CallExpression'
  callee: Expression
  args: Argument[]
}

export interface KeywordArgument {
  type: 'KeywordArgumentExpression'
  key: Identifier
  value: Expression
}

export interface Slice {
  type: 'SliceExpression'
  start?: Expression
  stop?: Expression
  step?: Expression
}

export type Argument =
  | Expression
  | KeywordArgument
  | { type: 'SpreadExpression'; argument: Expression }
  | { type: 'KeywordSpreadExpression'; argument: Expression }

export type Parameter = Identifier | KeywordArgument
