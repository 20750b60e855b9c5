import { type MeshName, type Statement, signedBytes } from '../../protocols/membership/statement.ts'
import { Roll } from './roll.ts'
import { isSignedBy, type Signer } from './signing.ts'

/** A mesh's roll whose statements are signed by devices' keys: the real one. */
export function signedRoll(
  { mesh, statements }: { mesh: MeshName; statements: readonly Statement[] },
  signer: Signer,
  onChange: () => void = () => {}
): Roll {
  return new Roll({
    peerId: signer.peerId,
    mesh,
    statements,
    sign: statement => ({ ...statement, signature: signer.sign(signedBytes(mesh, statement)) }) as Statement,
    isSigned: statement => isSignedBy(statement.by, signedBytes(mesh, statement), statement.signature),
    onChange
  })
}
